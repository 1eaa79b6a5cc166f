//! A page of a room: where it starts, which way it goes and where it ends.

use crate::message::{Message, SendTime};

/// The bytes that a message takes in a Thrift Binary reply beside its three strings: three string headers of 7, an
/// i64 field of 11 and the stop byte.
const WIRE_BYTES: usize = 33;

/// Which way a page goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Oldest first.
    Forward,
    /// Newest first.
    Reverse,
}

/// Which messages are wanted.
#[derive(Debug, Clone, Copy)]
pub struct PageQuery {
    /// The first message's place, inclusive; it need not be the time of a message. `None` is the room's beginning,
    /// or its end in [`Direction::Reverse`].
    pub from: Option<SendTime>,
    /// Which way to go from there.
    pub direction: Direction,
    /// At most this many messages, at least 1.
    pub messages_max: usize,
    /// The page ends before its messages take more bytes than this in a reply, but has at least one.
    pub bytes_max: usize,
    /// The length of the chat's name, which every message in the reply repeats.
    pub chat_bytes: usize,
}

/// The messages of a page, and where the next one starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// In the query's direction.
    pub messages: Vec<Message>,
    /// The place of the first message that is not in the page; `None` at the room's end.
    pub next: Option<SendTime>,
}

/// Fills a page with messages in the order that a store reads them. Both stores build theirs here, so that a page
/// ends at the same message in both.
#[derive(Debug)]
pub struct PageBuilder {
    query: PageQuery,
    bytes: usize,
    page: Page,
}

impl PageBuilder {
    /// An empty page.
    pub fn new(query: PageQuery) -> Self {
        Self { query, bytes: 0, page: Page { messages: Vec::new(), next: None } }
    }

    /// How many more messages a store may have to read to complete the page: one more than fit, to know whether
    /// there is a next page. 0 when it is complete.
    pub fn wanted(&self) -> usize {
        match self.page.next {
            Some(_) => 0,
            None => self.query.messages_max + 1 - self.page.messages.len(),
        }
    }

    /// Takes the room's next message. Call it no more once [`wanted`](Self::wanted) is 0.
    pub fn push(&mut self, message: Message) {
        debug_assert!(self.wanted() > 0, "the page is complete");
        let bytes = WIRE_BYTES + self.query.chat_bytes + message.sender.len() + message.text.len();
        let full = self.page.messages.len() == self.query.messages_max
            || (!self.page.messages.is_empty() && self.bytes + bytes > self.query.bytes_max);
        if full {
            self.page.next = Some(message.send_time);
        } else {
            self.bytes += bytes;
            self.page.messages.push(message);
        }
    }

    /// The page, complete or at the room's end.
    pub fn finish(self) -> Page {
        self.page
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(messages_max: usize, bytes_max: usize, texts: &[usize]) -> Page {
        let mut page = PageBuilder::new(PageQuery {
            from: None,
            direction: Direction::Forward,
            messages_max,
            bytes_max,
            chat_bytes: 3,
        });
        for (i, len) in texts.iter().enumerate() {
            if page.wanted() == 0 {
                break;
            }
            let send_time = SendTime::from_micros(i as i64 + 1).expect("positive");
            page.push(Message { send_time, sender: "a".into(), text: "x".repeat(*len).into() });
        }
        page.finish()
    }

    fn shape(page: Page) -> (usize, Option<i64>) {
        (page.messages.len(), page.next.map(SendTime::as_micros))
    }

    #[test]
    fn a_page_ends_at_its_number_of_messages() {
        assert_eq!(shape(page(2, 1000, &[1, 1])), (2, None));
        assert_eq!(shape(page(2, 1000, &[1, 1, 1])), (2, Some(3)));
    }

    #[test]
    fn a_page_ends_before_its_bytes_exceed_the_budget() {
        let message = WIRE_BYTES + 3 + 1 + 10;
        assert_eq!(shape(page(9, 2 * message, &[10, 10, 10])), (2, Some(3)));
        assert_eq!(shape(page(9, 2 * message - 1, &[10, 10, 10])), (1, Some(2)));
    }

    #[test]
    fn a_message_over_the_budget_is_a_page_of_its_own() {
        assert_eq!(shape(page(9, 10, &[500, 1])), (1, Some(2)));
    }
}
