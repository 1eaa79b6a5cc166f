//! Contract section 1: one port answers every client in the form that it speaks, and goes on after an error wherever
//! the next call can be found.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    time::{Duration, Instant},
};

use harness::{
    program::Program,
    thrift::{Envelope, Form, Message, Protocol, Value, call, encode, forms, pull, read_reply, send, with_length},
};
use tempfile::TempDir;

const UNFRAMED: Form = (Protocol::Binary, Envelope::Unframed);
const FRAMED: Form = (Protocol::Binary, Envelope::Framed);

fn start(args: &[&str]) -> (Program, TempDir) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let store = format!("embedded:{}", dir.path().join("data").display());
    let args = [&["--rpc-addr", "127.0.0.1:0", "--store", &store][..], args].concat();
    (Program::serve(env!("CARGO_BIN_EXE_rpc-server"), &args), dir)
}

fn connect(server: &Program) -> TcpStream {
    let stream = TcpStream::connect(server.rpc()).expect("connected");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("set");
    stream
}

fn ask(stream: &mut TcpStream, message: &Message, form: Form) -> Message {
    stream.write_all(&encode(message, form)).expect("written");
    let reply = read_reply(stream, form).unwrap_or_else(|e| panic!("{form:?}: {e}"));
    assert_eq!(reply.sequence_id, message.sequence_id, "{form:?}: the reply carries its call's number");
    reply
}

/// The Code of a Send's or Pull's response.
fn code(reply: &Message) -> i32 {
    assert_eq!(reply.kind, 2, "a reply: {reply:?}");
    let Value::I32(code) = reply.body.field(0).field(1) else { panic!("{reply:?}") };
    *code
}

/// The type of an exception, and what it says.
fn exception(reply: &Message) -> (i32, String) {
    assert_eq!(reply.kind, 3, "an exception: {reply:?}");
    let (Value::Bytes(text), Value::I32(kind)) = (reply.body.field(1), reply.body.field(2)) else { panic!() };
    (*kind, String::from_utf8(text.clone()).expect("text"))
}

fn texts(reply: &Message) -> Vec<String> {
    let Value::List(messages) = reply.body.field(0).field(3) else { panic!("{reply:?}") };
    let text = |m: &Value| match m.field(2) {
        Value::Bytes(text) => String::from_utf8(text.clone()).expect("text"),
        other => panic!("{other:?}"),
    };
    messages.iter().map(text).collect()
}

fn is_closed(stream: &mut TcpStream) -> bool {
    matches!(stream.read(&mut [0]), Ok(0)) || stream.take_error().is_ok_and(|e| e.is_some())
}

#[test]
fn every_form_is_answered_in_the_same_form() {
    let (server, _dir) = start(&[]);
    for (i, form) in forms().into_iter().enumerate() {
        let (chat, mut stream) = (format!("a{i}:b"), connect(&server));
        for text in ["1", "2", "a longer text, \r\n and \u{1F980}"] {
            assert_eq!(code(&ask(&mut stream, &send(7, &chat, text, "b"), form)), 0, "{form:?}");
        }
        let forward = ask(&mut stream, &pull(-1, &chat, 2, false), form);
        assert_eq!((forward.name.as_str(), texts(&forward)), ("Pull", vec!["1".into(), "2".into()]), "{form:?}");
        assert_eq!(forward.body.field(0).field(4), &Value::Bool(true), "HasMore");
        let reverse = ask(&mut stream, &pull(i32::MAX, &chat, 1, true), form);
        assert_eq!(texts(&reverse), ["a longer text, \r\n and \u{1F980}"], "{form:?}");
        assert_eq!(code(&ask(&mut stream, &send(8, "no chat", "x", "b"), form)), 400, "{form:?}");
    }
}

#[test]
fn after_an_exception_the_connection_lives_in_every_form() {
    let (server, _dir) = start(&[]);
    let nothing = || Value::Struct(vec![]);
    for form in forms() {
        let mut stream = connect(&server);
        let (kind, text) = exception(&ask(&mut stream, &call("Nope", 1, nothing()), form));
        assert_eq!((kind, text.as_str()), (1, "unknown method Nope"), "{form:?}");
        assert_eq!(exception(&ask(&mut stream, &call("Send", 2, nothing()), form)).0, 7, "{form:?}: no argument");
        let without_fields = Value::Struct(vec![(2, nothing())]);
        let (kind, text) = exception(&ask(&mut stream, &call("Pull", 3, without_fields), form));
        assert!(kind == 7 && text.contains("chat"), "{form:?}: {text}");
        let of_another_type = Value::Struct(vec![(1, Value::text("no struct"))]);
        assert_eq!(exception(&ask(&mut stream, &call("Send", 4, of_another_type), form)).0, 7, "{form:?}");
        let answer = Message { kind: 2, ..send(5, "a:b", "x", "a") };
        assert_eq!(exception(&ask(&mut stream, &answer, form)).0, 2, "{form:?}: an answer is no call");
        assert_eq!(code(&ask(&mut stream, &send(6, "a:b", "x", "a"), form)), 0, "{form:?}");
    }
}

#[test]
fn a_damaged_message_in_a_frame_is_exception_7_and_the_next_call_is_served() {
    let (server, _dir) = start(&[]);
    let mut stream = connect(&server);
    let mut damaged = encode(&send(1, "a:b", "text", "a"), UNFRAMED);
    let length_of_the_chat = damaged.windows(4).position(|w| w == [0, 0, 0, 3]).expect("there");
    for length in [-1, i32::MAX, 1_000, i32::MIN] {
        damaged[length_of_the_chat..][..4].copy_from_slice(&length.to_be_bytes());
        stream.write_all(&with_length(damaged.clone())).expect("written");
        let reply = read_reply(&mut stream, FRAMED).expect("a reply");
        assert_eq!((exception(&reply).0, reply.sequence_id, reply.name.as_str()), (7, 1, "Send"), "{length}");
    }
    assert_eq!(code(&ask(&mut stream, &send(2, "a:b", "x", "a"), FRAMED)), 0);
}

#[test]
fn text_that_is_not_utf_8_is_refused_and_the_connection_lives() {
    let (server, _dir) = start(&[]);
    for form in forms() {
        let mut stream = connect(&server);
        for bad in 1..=3 {
            let field =
                |id: i16, text: &str| if id == bad { Value::Bytes(vec![0xC3, 0x28]) } else { Value::text(text) };
            let message = Value::Struct(vec![(1, field(1, "a:b")), (2, field(2, "x")), (3, field(3, "a"))]);
            let body = Value::Struct(vec![(1, Value::Struct(vec![(1, message)]))]);
            assert_eq!(code(&ask(&mut stream, &call("Send", 1, body), form)), 400, "{form:?}, field {bad}");
        }
        assert_eq!(code(&ask(&mut stream, &send(2, "a:b", "x", "a"), form)), 0);
    }
}

#[test]
fn unknown_fields_of_any_type_are_passed_over() {
    let (server, _dir) = start(&[]);
    for form in forms() {
        let extra = Value::Struct(vec![
            (1, Value::Bool(true)),
            (99, Value::List(vec![Value::Struct(vec![(-4, Value::I64(i64::MIN))]), Value::Struct(vec![])])),
            (i16::MAX, Value::Bytes(vec![0xFF; 300])),
        ]);
        let mut message = send(1, "a:b", "x", "a");
        let Value::Struct(fields) = &mut message.body else { panic!() };
        fields.push((2, extra.clone()));
        let Value::Struct(request) = &mut fields[0].1 else { panic!() };
        request.push((30_000, extra.clone()));
        request.insert(0, (-30_000, extra));
        let mut stream = connect(&server);
        assert_eq!(code(&ask(&mut stream, &message, form)), 0, "{form:?}");
    }
}

#[test]
fn a_oneway_call_runs_and_is_not_answered() {
    let (server, _dir) = start(&[]);
    let mut stream = connect(&server);
    let oneway = Message { kind: 4, ..send(1, "one:way", "x", "one") };
    stream.write_all(&encode(&oneway, FRAMED)).expect("written");
    let reply = ask(&mut stream, &pull(2, "one:way", 10, false), FRAMED);
    assert_eq!(texts(&reply), ["x"], "the first answer is the second call's");
}

#[test]
fn a_multiplexed_name_is_the_services() {
    let (server, _dir) = start(&[]);
    let mut message = send(1, "a:b", "x", "a");
    message.name = "IMService:Send".into();
    let reply = ask(&mut connect(&server), &message, UNFRAMED);
    assert_eq!((code(&reply), reply.name.as_str()), (0, "Send"));
}

#[test]
fn pipelined_calls_are_answered_in_order_and_sends_to_a_room_are_stored_in_order() {
    let (server, _dir) = start(&[]);
    for form in forms() {
        let rooms = [format!("{form:?}:1"), format!("{form:?}:2")];
        let mut stream = connect(&server);
        let calls: Vec<_> = (0..200)
            .map(|i| send(i, &rooms[i as usize % 2], &i.to_string(), &rooms[i as usize % 2][..rooms[0].len() - 2]))
            .collect();
        let bytes: Vec<u8> = calls.iter().flat_map(|m| encode(m, form)).collect();
        let mut writer = stream.try_clone().expect("a second handle");
        let written = std::thread::spawn(move || writer.write_all(&bytes).expect("written"));
        for call in &calls {
            let reply = read_reply(&mut stream, form).unwrap_or_else(|e| panic!("{form:?}: {e}"));
            assert_eq!((reply.sequence_id, code(&reply)), (call.sequence_id, 0), "{form:?}");
        }
        written.join().expect("written");
        for (odd, room) in rooms.iter().enumerate() {
            let expected: Vec<String> = (0..200).filter(|i| i % 2 == odd).map(|i| i.to_string()).collect();
            assert_eq!(texts(&ask(&mut stream, &pull(1, room, 1_000, false), form)), expected, "{form:?}");
        }
    }
}

#[test]
fn a_client_that_closes_its_side_still_gets_its_answers() {
    let (server, _dir) = start(&[]);
    let mut stream = connect(&server);
    stream.write_all(&encode(&send(1, "a:b", "x", "a"), UNFRAMED)).expect("written");
    stream.shutdown(Shutdown::Write).expect("shut");
    assert_eq!(code(&read_reply(&mut stream, UNFRAMED).expect("a reply")), 0);
    assert!(is_closed(&mut stream));
}

#[test]
fn calls_that_have_come_when_the_server_stops_are_still_answered() {
    let (mut server, _dir) = start(&[]);
    let mut stream = connect(&server);
    let calls: Vec<u8> = (0..100).flat_map(|i| encode(&send(i, "a:b", "x", "a"), FRAMED)).collect();
    stream.write_all(&calls).expect("written");
    read_reply(&mut stream, FRAMED).expect("the first answer: all have come");
    let stopping = std::thread::spawn(move || server.stop().0.success());
    for _ in 1..100 {
        assert_eq!(code(&read_reply(&mut stream, FRAMED).expect("a reply")), 0);
    }
    assert!(is_closed(&mut stream));
    assert!(stopping.join().expect("stopped"));
}

#[test]
fn bytes_may_come_one_by_one() {
    let (server, _dir) = start(&[]);
    for form in forms().into_iter().filter(|(_, envelope)| *envelope != Envelope::TTHeader(40_000)) {
        let mut stream = connect(&server);
        stream.set_nodelay(true).expect("set");
        for byte in encode(&send(1, "a:b", "x", "a"), form) {
            stream.write_all(&[byte]).expect("written");
        }
        assert_eq!(code(&read_reply(&mut stream, form).expect("a reply")), 0, "{form:?}");
    }
}

#[test]
fn timeouts_close_connections_that_do_not_begin_or_do_not_end_and_idle_ones() {
    let (server, _dir) =
        start(&["--rpc-first-byte-timeout=300ms", "--rpc-message-timeout=200ms", "--rpc-idle-timeout=600ms"]);
    let closes_after = |mut stream: TcpStream, from: u64, to: u64, what: &str| {
        let start = Instant::now();
        assert!(is_closed(&mut stream), "{what}");
        let waited = start.elapsed();
        assert!(waited >= Duration::from_millis(from) && waited < Duration::from_millis(to), "{what}: {waited:?}");
    };
    closes_after(connect(&server), 250, 2_000, "a connection that says nothing");
    for form in forms() {
        let mut stream = connect(&server);
        let message = encode(&send(1, "a:b", "x", "a"), form);
        stream.write_all(&message[..message.len() - 1]).expect("written");
        closes_after(stream, 150, 1_500, &format!("half a message, {form:?}"));
    }
    let mut stream = connect(&server);
    ask(&mut stream, &send(1, "a:b", "x", "a"), UNFRAMED);
    closes_after(stream, 550, 2_500, "an idle connection");
}

#[test]
fn calls_beyond_those_in_flight_are_refused_at_once_with_a_sentence() {
    let redis = harness::redis::RedisServer::start();
    let args = ["--rpc-addr", "127.0.0.1:0", "--store", &redis.url(), "--rpc-calls-max", "2"];
    let server = Program::serve(env!("CARGO_BIN_EXE_rpc-server"), &args);
    assert_eq!(code(&ask(&mut connect(&server), &send(1, "a:b", "x", "a"), UNFRAMED)), 0);
    redis.pause();
    let mut waiting: Vec<_> = (0..2).map(|_| connect(&server)).collect();
    for stream in &mut waiting {
        stream.write_all(&encode(&send(1, "a:b", "x", "a"), UNFRAMED)).expect("written");
    }
    std::thread::sleep(Duration::from_millis(100));
    let start = Instant::now();
    let (kind, text) = exception(&ask(&mut connect(&server), &send(1, "a:b", "x", "a"), UNFRAMED));
    assert!(kind == 6 && text.contains("in flight"), "{text}");
    assert!(start.elapsed() < Duration::from_millis(300));
    redis.resume();
    for stream in &mut waiting {
        assert_eq!(code(&read_reply(stream, UNFRAMED).expect("a reply")), 0);
    }
}
