//! What `Store` promises, on both backends.

mod both_stores;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use both_stores::Backend;
use pilota::FastStr;
use proptest::prelude::*;
use rpc_server::{
    chat::{Chat, Room},
    message::{Draft, SendTime},
    page::{Direction, Page, PageQuery},
    store::Store,
};

on_both_stores! {
    a_message_comes_back_whole,
    a_room_never_used_is_empty,
    rooms_with_near_names_are_apart,
    names_and_texts_of_any_unicode_come_back,
    equal_messages_are_each_stored,
    times_strictly_increase_in_the_order_of_acknowledgement,
    a_time_is_the_present_in_microseconds,
    many_writers_share_one_order_that_followers_see_once,
    a_page_stops_at_its_bytes_however_many_messages_were_asked_for,
    a_large_page_is_read_whole,
    messages_survive_a_new_start,
    pages_agree_with_a_plain_list,
}

fn room(name: &str) -> Room {
    Chat::parse(FastStr::new(name)).expect("a chat").room()
}

fn draft(text: &str) -> Draft {
    Draft { sender: "a".into(), text: FastStr::new(text) }
}

fn query(from: Option<i64>, direction: Direction, messages_max: usize) -> PageQuery {
    let from = from.and_then(SendTime::from_micros);
    PageQuery { from, direction, messages_max, bytes_max: 1 << 20, chat_bytes: 3 }
}

async fn append(store: &dyn Store, room: &Room, text: &str) -> i64 {
    store.append(room, draft(text)).await.expect("stored").as_micros()
}

async fn page(store: &dyn Store, room: &Room, query: PageQuery) -> Page {
    store.page(room, query).await.expect("a page")
}

fn texts(page: &Page) -> Vec<&str> {
    page.messages.iter().map(|m| &*m.text).collect()
}

async fn a_message_comes_back_whole(backend: Backend) {
    let (store, room) = (backend.open().await, room("Amy:bob"));
    let time = store.append(&room, Draft { sender: "AMY".into(), text: "hi".into() }).await.expect("stored");
    let page = page(&*store, &room, query(None, Direction::Forward, 10)).await;
    assert_eq!(page.messages.len(), 1);
    let message = &page.messages[0];
    assert_eq!((message.send_time, &*message.sender, &*message.text), (time, "AMY", "hi"));
    assert_eq!(page.next, None);
}

async fn a_room_never_used_is_empty(backend: Backend) {
    let store = backend.open().await;
    for direction in [Direction::Forward, Direction::Reverse] {
        for from in [None, Some(1), Some(i64::MAX)] {
            let page = page(&*store, &room("no:body"), query(from, direction, 10)).await;
            assert!(page.messages.is_empty() && page.next.is_none());
        }
    }
}

async fn rooms_with_near_names_are_apart(backend: Backend) {
    let store = backend.open().await;
    let rooms = ["a:b", "a:bb", "aa:b", "a:b\0", "{a:b", "a:b}", "%7ba:b", "a:b ", "a:\u{10FFFF}"];
    for name in rooms {
        append(&*store, &room(name), name).await;
    }
    for name in rooms {
        let page = page(&*store, &room(name), query(None, Direction::Forward, 10)).await;
        assert_eq!(texts(&page), [name]);
    }
}

async fn names_and_texts_of_any_unicode_come_back(backend: Backend) {
    let store = backend.open().await;
    for odd in ["\0", "\r\nSET x 1\r\n", "{}", "%s%n", "'; DROP", "../../etc", "😀", "\u{202e}rtl", " ", "\"\\"] {
        let room = room(&format!("{odd}:x"));
        store.append(&room, Draft { sender: odd.into(), text: odd.into() }).await.expect("stored");
        let page = page(&*store, &room, query(None, Direction::Forward, 10)).await;
        assert_eq!(page.messages.len(), 1, "{odd:?}");
        assert_eq!((&*page.messages[0].sender, &*page.messages[0].text), (odd, odd));
    }
}

async fn equal_messages_are_each_stored(backend: Backend) {
    let (store, room) = (backend.open().await, room("a:b"));
    let sends = (0..200).map(|_| {
        let (store, room) = (store.clone(), room.clone());
        tokio::spawn(async move { append(&*store, &room, "the very same").await })
    });
    let mut times = Vec::new();
    for send in sends.collect::<Vec<_>>() {
        times.push(send.await.expect("no panic"));
    }
    times.sort_unstable();
    times.dedup();
    assert_eq!(times.len(), 200);
    let page = page(&*store, &room, query(None, Direction::Forward, 1000)).await;
    assert_eq!(page.messages.iter().map(|m| m.send_time.as_micros()).collect::<Vec<_>>(), times);
}

async fn times_strictly_increase_in_the_order_of_acknowledgement(backend: Backend) {
    let (store, room) = (backend.open().await, room("a:b"));
    let mut last = 0;
    for i in 0..300 {
        let time = append(&*store, &room, &i.to_string()).await;
        assert!(time > last);
        last = time;
    }
}

async fn a_time_is_the_present_in_microseconds(backend: Backend) {
    let store = backend.open().await;
    let now =
        || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_micros() as i64;
    let before = now();
    let time = append(&*store, &room("a:b"), "x").await;
    assert!((before - 100_000..=now() + 100_000).contains(&time), "{before} {time}");
}

async fn many_writers_share_one_order_that_followers_see_once(backend: Backend) {
    const WRITERS: usize = 20;
    const EACH: usize = 50;
    let (store, room) = (backend.open().await, room("a:b"));
    let writers = (0..WRITERS).map(|w| {
        let (store, room) = (store.clone(), room.clone());
        tokio::spawn(async move {
            for i in 0..EACH {
                append(&*store, &room, &format!("{w}/{i}")).await;
            }
        })
    });
    let followers = (0..4).map(|_| tokio::spawn(follow(store.clone(), room.clone(), WRITERS * EACH)));
    let (writers, followers): (Vec<_>, Vec<_>) = (writers.collect(), followers.collect());
    for writer in writers {
        writer.await.expect("no panic");
    }
    let mut orders = Vec::new();
    for follower in followers {
        orders.push(follower.await.expect("no panic"));
    }
    let mut all = orders[0].clone();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), WRITERS * EACH);
    assert!(orders.iter().all(|order| *order == orders[0]));
}

async fn follow(store: Arc<dyn Store>, room: Room, count: usize) -> Vec<(i64, String)> {
    let (mut seen, mut cursor) = (Vec::new(), None);
    while seen.len() < count {
        let page = page(&*store, &room, query(cursor, Direction::Forward, 7)).await;
        seen.extend(page.messages.iter().map(|m| (m.send_time.as_micros(), m.text.to_string())));
        cursor = seen.last().map(|(time, _)| time + 1);
        if page.messages.is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    seen
}

async fn a_page_stops_at_its_bytes_however_many_messages_were_asked_for(backend: Backend) {
    let (store, room) = (backend.open().await, room("a:b"));
    for _ in 0..200 {
        append(&*store, &room, &"x".repeat(60 << 10)).await;
    }
    for direction in [Direction::Forward, Direction::Reverse] {
        let page = page(&*store, &room, query(None, direction, 1000)).await;
        assert_eq!(page.messages.len(), 17); // of 60 KiB in 1 MiB
        assert!(page.next.is_some());
    }
}

async fn a_large_page_is_read_whole(backend: Backend) {
    let (store, room) = (backend.open().await, room("a:b"));
    let expected: Vec<_> = (0..1000).map(|i| i.to_string()).collect();
    for text in &expected {
        append(&*store, &room, text).await;
    }
    let forward = page(&*store, &room, query(None, Direction::Forward, 1000)).await;
    assert_eq!((texts(&forward), forward.next), (expected.iter().map(String::as_str).collect(), None));
    let reverse = page(&*store, &room, query(None, Direction::Reverse, 999)).await;
    assert_eq!(texts(&reverse), expected[1..].iter().rev().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(reverse.next, Some(forward.messages[0].send_time));
}

async fn messages_survive_a_new_start(backend: Backend) {
    let room = room("a:b");
    let store = backend.open().await;
    let first = append(&*store, &room, "before").await;
    drop(store);
    tokio::time::sleep(Duration::from_millis(300)).await; // the committer's thread lets go of the directory
    let store = backend.open().await;
    let second = append(&*store, &room, "after").await;
    assert!(second > first);
    assert_eq!(texts(&page(&*store, &room, query(None, Direction::Forward, 10)).await), ["before", "after"]);
}

/// Something done to a room.
#[derive(Debug, Clone)]
enum Step {
    Append(usize),
    /// A page from near the n-th message (before it, on it or after it), or from an end of the room.
    Page {
        near: Option<(usize, i64)>,
        direction: Direction,
        messages_max: usize,
        bytes_max: usize,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let append = (1usize..300).prop_map(Step::Append);
    let direction = prop_oneof![Just(Direction::Forward), Just(Direction::Reverse)];
    let near = prop::option::of((0usize..60, -1i64..=1));
    let page = (near, direction, 1usize..20, 1usize..3000)
        .prop_map(|(near, direction, messages_max, bytes_max)| Step::Page { near, direction, messages_max, bytes_max });
    prop::collection::vec(prop_oneof![append, page], 1..120)
}

/// Any interleaving of sends and pages is what a plain list would give.
async fn pages_agree_with_a_plain_list(backend: Backend) {
    let store = backend.open().await;
    tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Handle::current();
        let rooms = AtomicUsize::new(0);
        let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(40));
        let checked = runner.run(&steps(), |steps| {
            let case = room(&format!("p{}:x", rooms.fetch_add(1, Ordering::Relaxed)));
            runtime.block_on(agrees_with_a_list(&*store, &case, steps));
            Ok(())
        });
        checked.expect("every page agrees");
    })
    .await
    .expect("no panic");
}

async fn agrees_with_a_list(store: &dyn Store, room: &Room, steps: Vec<Step>) {
    let mut list: Vec<(i64, usize)> = Vec::new();
    for step in steps {
        match step {
            Step::Append(len) => list.push((append(store, room, &"x".repeat(len)).await, len)),
            Step::Page { near, direction, messages_max, bytes_max } => {
                let from = near.filter(|_| !list.is_empty()).map(|(n, offset)| list[n % list.len()].0 + offset);
                let query = PageQuery { bytes_max, ..query(from, direction, messages_max) };
                let page = page(store, room, query).await;
                let got: Vec<_> = page.messages.iter().map(|m| (m.send_time.as_micros(), m.text.len())).collect();
                assert_eq!((got, page.next.map(SendTime::as_micros)), expected(&list, from, query));
            }
        }
    }
}

/// The page that a plain list gives: written from the contract, apart from `PageBuilder`.
fn expected(list: &[(i64, usize)], from: Option<i64>, query: PageQuery) -> (Vec<(i64, usize)>, Option<i64>) {
    let mut rest: Vec<_> = match query.direction {
        Direction::Forward => list.iter().filter(|(time, _)| from.is_none_or(|from| *time >= from)).copied().collect(),
        Direction::Reverse => list.iter().filter(|(time, _)| from.is_none_or(|from| *time <= from)).copied().collect(),
    };
    if query.direction == Direction::Reverse {
        rest.reverse();
    }
    let wire = |len: usize| 33 + 3 + 1 + len; // fields, "a:b" as said in `query`, sender "a", text
    let mut count = 0;
    let mut bytes = 0;
    while count < rest.len() && count < query.messages_max {
        bytes += wire(rest[count].1);
        if count > 0 && bytes > query.bytes_max {
            break;
        }
        count += 1;
    }
    (rest[..count].to_vec(), rest.get(count).map(|(time, _)| *time))
}
