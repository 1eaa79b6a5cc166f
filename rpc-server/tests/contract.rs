//! Contract section 2, row by row, over the wire on both stores. The orders and the followers stand in `store.rs`
//! and `replicas.rs`, the store's failures in `redis_faults.rs` and `embedded_faults.rs`.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
};

use harness::{
    calls::{client, pull, send, texts},
    program::Program,
    redis::RedisServer,
};
use tempfile::TempDir;

/// A running rpc-server and whatever its store needs.
struct Server {
    program: Program,
    _redis: Option<RedisServer>,
    _dir: TempDir,
}

impl Server {
    fn embedded() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let url = format!("embedded:{}", dir.path().join("data").display());
        Self { program: serve(&url), _redis: None, _dir: dir }
    }

    fn redis() -> Self {
        let redis = RedisServer::start();
        let dir = tempfile::tempdir().expect("a temporary directory");
        Self { program: serve(&redis.url()), _redis: Some(redis), _dir: dir }
    }

    fn addr(&self) -> SocketAddr {
        self.program.rpc()
    }
}

fn serve(store: &str) -> Program {
    Program::serve(env!("CARGO_BIN_EXE_rpc-server"), &["--rpc-addr", "127.0.0.1:0", "--store", store])
}

macro_rules! on_both_stores {
    ($($behaviour:ident),* $(,)?) => {
        mod on_the_embedded_store {
            $(#[tokio::test]
            async fn $behaviour() {
                super::$behaviour(super::Server::embedded()).await;
            })*
        }
        mod on_redis {
            $(#[tokio::test]
            async fn $behaviour() {
                super::$behaviour(super::Server::redis()).await;
            })*
        }
    };
}

on_both_stores! {
    what_is_wrong_with_a_send_is_told_with_its_code,
    what_is_wrong_with_a_pull_is_told_with_its_code,
    strings_that_are_not_utf8_are_refused_and_the_connection_lives,
    a_room_is_one_however_its_chat_is_spelled,
    the_limit_has_a_default_and_a_maximum,
    the_cursor_is_inclusive_and_need_not_be_a_messages_time,
    has_more_and_next_cursor_are_always_set,
    the_requests_send_time_is_ignored,
}

async fn what_is_wrong_with_a_send_is_told_with_its_code(server: Server) {
    let client = client(server.addr());
    let (long_chat, long_text, longest) = ("x".repeat(511) + ":b", "y".repeat(65_537), "y".repeat(65_536));
    let rows: &[(&str, &str, &str, i32, &str)] = &[
        // chat, text, sender, Code, what the Msg says
        ("a:b", "x", "a", 0, "success"),
        ("a:b", &longest, "a", 0, "success"),
        ("a:a", "note", "A", 0, "success"),
        ("A:b", "x", "a", 0, "success"),
        ("", "x", "a", 400, "two members"),
        ("ab", "x", "ab", 400, "two members"),
        ("a:b:c", "x", "a", 400, "two members"),
        (":", "x", "", 400, "two members"),
        ("a:", "x", "a", 400, "two members"),
        (":b", "x", "b", 400, "two members"),
        (&long_chat, "x", "b", 400, "at most 512"),
        ("a:b", "x", "c", 400, "one of the chat's two members"),
        ("a:b", "x", "", 400, "one of the chat's two members"),
        ("a:b", "x", "a:b", 400, "one of the chat's two members"),
        ("a:b", "", "a", 400, "must not be empty"),
        ("a:b", &long_text, "a", 413, "at most 65536"),
    ];
    for (chat, text, sender, code, says) in rows {
        let (got, msg) = send(&client, chat, text, sender).await;
        assert_eq!(got, *code, "{chat:.20} {sender}: {msg}");
        assert!(msg.contains(says), "{msg:?} does not say {says:?}");
    }
}

async fn what_is_wrong_with_a_pull_is_told_with_its_code(server: Server) {
    let client = client(server.addr());
    let long_chat = "x".repeat(511) + ":b";
    let rows: &[(&str, i64, i32, i32, &str)] = &[
        // chat, Cursor, Limit, Code, what the Msg says
        ("a:b", 0, 0, 0, "success"),
        ("a:b", i64::MAX, i32::MAX, 0, "success"),
        ("", 0, 10, 400, "two members"),
        ("ab", 0, 10, 400, "two members"),
        ("a:b:c", 0, 10, 400, "two members"),
        ("a:", 0, 10, 400, "two members"),
        (&long_chat, 0, 10, 400, "at most 512"),
        ("a:b", -1, 10, 400, "cursor is -1"),
        ("a:b", i64::MIN, 10, 400, "cursor is"),
        ("a:b", 0, -1, 400, "limit is -1"),
        ("a:b", 0, i32::MIN, 400, "limit is"),
    ];
    for (chat, cursor, limit, code, says) in rows {
        for reverse in [false, true] {
            let page = pull(&client, chat, *cursor, *limit, reverse).await;
            assert_eq!(page.code, *code, "{chat:.20} {cursor} {limit}: {}", page.msg);
            assert!(page.msg.contains(says), "{:?} does not say {says:?}", page.msg);
        }
    }
}

async fn strings_that_are_not_utf8_are_refused_and_the_connection_lives(server: Server) {
    let bad: &[u8] = b"\xff\xfe";
    let mut stream = TcpStream::connect(server.addr()).expect("connected");
    let rows: [[&[u8]; 3]; 3] = [[bad, b"x", b"a"], [b"a:b", bad, b"a"], [b"a:b", b"x", bad]];
    for (chat, field) in rows.iter().zip(["chat", "text", "sender"]) {
        let reply = call_send(&mut stream, chat);
        assert_eq!(reply.0, 400);
        assert_eq!(reply.1, format!("{field} is not UTF-8"));
    }
    assert_eq!(call_send(&mut stream, &[b"a:b", b"x", b"a"]).0, 0);
}

/// A Send in unframed Binary, bytes as they are; the reply's Code and Msg.
fn call_send(stream: &mut TcpStream, [chat, text, sender]: &[&[u8]; 3]) -> (i32, String) {
    let mut call = b"\x80\x01\x00\x01\x00\x00\x00\x04Send\x00\x00\x00\x07\x0c\x00\x01\x0c\x00\x01".to_vec();
    for (id, value) in [(1, chat), (2, text), (3, sender)] {
        call.extend([11, 0, id]);
        call.extend((value.len() as u32).to_be_bytes());
        call.extend_from_slice(value);
    }
    call.extend([0, 0, 0]);
    stream.write_all(&call).expect("written");
    let mut read = |n: usize| {
        let mut bytes = vec![0; n];
        stream.read_exact(&mut bytes).expect("a reply");
        bytes
    };
    let int = |bytes: Vec<u8>| i32::from_be_bytes(bytes.try_into().expect("four bytes"));
    assert_eq!(read(16), b"\x80\x01\x00\x02\x00\x00\x00\x04Send\x00\x00\x00\x07", "a reply, not an exception");
    assert_eq!(read(6), [12, 0, 0, 8, 0, 1]);
    let code = int(read(4));
    assert_eq!(read(3), [11, 0, 2]);
    let len = int(read(4)) as usize;
    let msg = String::from_utf8(read(len)).expect("UTF-8");
    assert_eq!(read(2), [0, 0]);
    (code, msg)
}

async fn a_room_is_one_however_its_chat_is_spelled(server: Server) {
    let client = client(server.addr());
    for (chat, sender) in [("Zed:amy", "Zed"), ("AMY:zed", "AMY"), ("zed:Amy", "zed")] {
        assert_eq!(send(&client, chat, "hi", sender).await.0, 0);
    }
    for chat in ["zed:amy", "Amy:Zed"] {
        let page = pull(&client, chat, 0, 10, false).await;
        let messages = page.messages.expect("set");
        assert!(messages.iter().all(|m| m.chat.as_deref() == Some(chat)));
        let senders: Vec<_> = messages.iter().filter_map(|m| m.sender.as_deref()).collect();
        assert_eq!(senders, ["Zed", "AMY", "zed"]);
    }
}

async fn the_limit_has_a_default_and_a_maximum(server: Server) {
    let client = client(server.addr());
    for i in 0..1_001 {
        assert_eq!(send(&client, "a:b", &i.to_string(), "a").await.0, 0);
    }
    for (limit, messages) in [(0, 10), (1, 1), (999, 999), (1_000, 1_000), (1_001, 1_000), (i32::MAX, 1_000)] {
        let page = pull(&client, "a:b", 0, limit, false).await;
        assert_eq!((texts(&page).len(), page.has_more), (messages, Some(true)), "limit {limit}");
    }
}

async fn the_cursor_is_inclusive_and_need_not_be_a_messages_time(server: Server) {
    let client = client(server.addr());
    for text in ["one", "two", "three"] {
        assert_eq!(send(&client, "a:b", text, "a").await.0, 0);
    }
    let times: Vec<_> = texts(&pull(&client, "a:b", 0, 10, false).await).iter().map(|(time, _)| *time).collect();
    let rows = [
        (0, false, "one"),
        (0, true, "three"),
        (times[1], false, "two"),
        (times[1], true, "two"),
        (times[1] + 1, false, "three"),
        (times[1] - 1, true, "one"),
        (1, false, "one"),
        (i64::MAX, true, "three"),
    ];
    for (cursor, reverse, first) in rows {
        let page = pull(&client, "a:b", cursor, 1, reverse).await;
        assert_eq!(texts(&page)[0].1, first, "{cursor} {reverse}");
    }
    assert!(texts(&pull(&client, "a:b", times[2] + 1, 1, false).await).is_empty());
    assert!(texts(&pull(&client, "a:b", times[0] - 1, 1, true).await).is_empty());
}

async fn has_more_and_next_cursor_are_always_set(server: Server) {
    let client = client(server.addr());
    let page = pull(&client, "a:b", 0, 10, false).await;
    assert_eq!((page.has_more, page.next_cursor), (Some(false), Some(0)));
    for text in ["one", "two"] {
        assert_eq!(send(&client, "a:b", text, "a").await.0, 0);
    }
    let all = pull(&client, "a:b", 0, 2, false).await;
    assert_eq!((all.has_more, all.next_cursor), (Some(false), Some(0)));
    let second = texts(&all)[1].0;
    let first_page = pull(&client, "a:b", 0, 1, false).await;
    assert_eq!((first_page.has_more, first_page.next_cursor), (Some(true), Some(second)));
}

async fn the_requests_send_time_is_ignored(server: Server) {
    use volo_gen::rpc::{ImService, Message, SendRequest};
    let client = client(server.addr());
    let [chat, text, sender] = ["a:b", "x", "a"].map(|s| Some(s.into()));
    let message = Message { chat, text, sender, send_time: Some(77) };
    assert_eq!(client.send(SendRequest { message }).await.expect("an answer").code, 0);
    assert!(texts(&pull(&client, "a:b", 0, 1, false).await)[0].0 > 1_600_000_000_000_000);
}
