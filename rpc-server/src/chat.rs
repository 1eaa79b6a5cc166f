//! A chat as a caller names it, and the room that it means.

use pilota::FastStr;

/// The longest chat, in bytes as given (contract, section 2).
pub const CHAT_BYTES_MAX: usize = 512;

/// Where a chat's messages are: the two members, lower-cased and sorted, so that "a:b", "b:a" and "A:B" are one
/// room. Once made, it is valid.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Room(String);

impl Room {
    /// The canonical name, "<lesser member>:<greater member>".
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A chat with exactly two members, spelled as the caller did.
#[derive(Debug, Clone)]
pub struct Chat {
    spelled: FastStr,
    members: [String; 2],
}

impl Chat {
    /// Reads "<member1>:<member2>".
    ///
    /// # Errors
    /// There are not exactly two members, one is empty, or the name is over [`CHAT_BYTES_MAX`].
    pub fn parse(spelled: FastStr) -> Result<Self, ChatError> {
        if spelled.len() > CHAT_BYTES_MAX {
            return Err(ChatError::TooLong(spelled.len()));
        }
        let mut parts = spelled.split(':');
        let members = match (parts.next(), parts.next(), parts.next()) {
            (Some(a), Some(b), None) if !a.is_empty() && !b.is_empty() => [fold(a), fold(b)],
            _ => return Err(ChatError::NotTwoMembers),
        };
        Ok(Self { spelled, members })
    }

    /// The chat as the caller spelled it.
    pub fn spelled(&self) -> &FastStr {
        &self.spelled
    }

    /// The room that this chat means.
    pub fn room(&self) -> Room {
        let [a, b] = &self.members;
        let (lesser, greater) = if a <= b { (a, b) } else { (b, a) };
        Room(format!("{lesser}:{greater}"))
    }

    /// Whether `name` is one of the two members, compared as rooms are.
    pub fn has_member(&self, name: &str) -> bool {
        let name = fold(name);
        self.members.contains(&name)
    }
}

/// Lower-cases letter by letter, as Go's `strings.ToLower` does: a letter's neighbours never change its case form,
/// so a name alone and the same name inside a chat fold alike.
fn fold(name: &str) -> String {
    name.chars().flat_map(char::to_lowercase).collect()
}

/// Why a chat is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChatError {
    /// None, one or three and more members, or an empty one.
    #[error("chat must be two members, \"<member1>:<member2>\", neither of them empty")]
    NotTwoMembers,
    /// Over [`CHAT_BYTES_MAX`].
    #[error("chat is {0} bytes long, at most {CHAT_BYTES_MAX} are allowed")]
    TooLong(usize),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chat(name: &str) -> Chat {
        Chat::parse(FastStr::new(name)).expect("a chat")
    }

    #[test]
    fn order_and_case_of_the_members_do_not_matter() {
        for name in ["Amy:bob", "bob:amy", "AMY:BOB"] {
            assert_eq!(chat(name).room().as_str(), "amy:bob");
            assert_eq!(chat(name).spelled(), name);
        }
    }

    #[test]
    fn letters_fold_the_same_alone_and_inside_a_word() {
        // A final sigma has a lower-case form of its own in whole-word folding.
        assert_eq!(chat("ΟΔΟΣ:x").room(), chat("οδοσ:x").room());
        assert!(chat("ΟΔΟΣ:x").has_member("οδοΣ"));
    }

    #[test]
    fn one_member_three_members_and_empty_ones_are_refused() {
        for name in ["", ":", "a", "a:", ":b", "a:b:c", "a::b", "a:b:"] {
            assert_eq!(Chat::parse(FastStr::new(name)).err(), Some(ChatError::NotTwoMembers), "{name:?}");
        }
    }

    #[test]
    fn a_chat_with_oneself_is_a_room() {
        assert_eq!(chat("a:A").room().as_str(), "a:a");
    }

    #[test]
    fn the_length_is_bounded_in_bytes() {
        let longest = format!("{}:b", "é".repeat(255));
        assert_eq!(longest.len(), CHAT_BYTES_MAX);
        assert!(Chat::parse(FastStr::from(longest.clone())).is_ok());
        assert_eq!(Chat::parse(FastStr::from(longest + "b")).err(), Some(ChatError::TooLong(513)));
    }
}
