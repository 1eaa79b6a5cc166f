//! Bytes that no client sends: the process lives, its memory stays, and others are served meanwhile.

use std::{
    fs,
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use harness::{
    program::Program,
    thrift::{Envelope, Form, Protocol, Value, call, encode, forms, pull, read_reply, send, with_length},
};
use tempfile::TempDir;

const UNFRAMED: Form = (Protocol::Binary, Envelope::Unframed);
const FRAMED: Form = (Protocol::Binary, Envelope::Framed);

/// What memory may ever grow by over all cases, in bytes: a few messages of the greatest length.
const MEMORY_GROWTH_MAX: u64 = 96 << 20;

fn start(args: &[&str]) -> (Program, TempDir) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let store = format!("embedded:{}", dir.path().join("data").display());
    let args = [&["--rpc-addr", "127.0.0.1:0", "--store", &store, "--rpc-message-timeout", "1s"][..], args].concat();
    (Program::serve(env!("CARGO_BIN_EXE_rpc-server"), &args), dir)
}

fn connect(server: &Program) -> TcpStream {
    let stream = TcpStream::connect(server.rpc()).expect("connected");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("set");
    stream
}

/// The most memory that it ever had.
fn memory_bytes(server: &Program) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("it lives");
    let line = status.lines().find(|l| l.starts_with("VmHWM:")).expect("there");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number") << 10
}

fn is_served(server: &Program) -> Duration {
    let (start, mut stream) = (Instant::now(), connect(server));
    stream.write_all(&encode(&send(1, "good:caller", "x", "good"), FRAMED)).expect("written");
    let reply = read_reply(&mut stream, FRAMED).expect("a reply");
    assert_eq!(reply.body.field(0).field(1), &Value::I32(0), "{reply:?}");
    start.elapsed()
}

/// Hostile bytes, each with what it is.
fn cases() -> Vec<(String, Vec<u8>)> {
    let mut cases = Vec::new();
    for form in forms().into_iter().filter(|(_, envelope)| *envelope != Envelope::TTHeader(40_000)) {
        let (send, pull) = (encode(&send(1, "a:b", "hello", "a"), form), encode(&pull(1, "a:b", 9, true), form));
        for (name, message) in [("Send", &send), ("Pull", &pull)] {
            for at in 0..message.len() {
                cases.push((format!("{form:?} {name} cut at {at}"), message[..at].to_vec()));
                for byte in [0x00, 0x7F, 0x80, 0xFF] {
                    let mut changed = message.clone();
                    changed[at] = byte;
                    cases.push((format!("{form:?} {name} with {byte:#x} at {at}"), changed));
                }
                for number in [-1i32, i32::MIN, i32::MAX, 0x00FF_FFFF, 9_000_000] {
                    let mut changed = message.clone();
                    let end = message.len().min(at + 4);
                    changed[at..end].copy_from_slice(&number.to_be_bytes()[..end - at]);
                    cases.push((format!("{form:?} {name} with {number} at {at}"), changed));
                }
            }
        }
    }
    let head = |body: &[u8]| [&[0x80, 1, 0, 1, 0, 0, 0, 4][..], b"Send", &[0, 0, 0, 1], body].concat();
    let compact = |body: &[u8]| [&[0x82, 0x21, 1, 4][..], b"Send", body].concat();
    let nested = |levels: usize| head(&[12, 0, 1].repeat(levels));
    for (what, bytes) in [
        ("a string of 2 GiB", head(&[12, 0, 1, 12, 0, 1, 11, 0, 1, 0x7F, 0xFF, 0xFF, 0xFF])),
        ("2^31 items", head(&[15, 0, 9, 12, 0x7F, 0xFF, 0xFF, 0xFF])),
        ("2^31 items of a map", head(&[13, 0, 9, 2, 2, 0x7F, 0xFF, 0xFF, 0xFF])),
        ("items below zero", head(&[15, 0, 9, 2, 0xFF, 0xFF, 0xFF, 0xFF])),
        ("60,000 empty structs", head(&[&[15, 0, 9, 12, 0, 0, 0xEA, 0x60][..], &[0; 60_001]].concat())),
        ("100,000 nested structs", nested(100_000)),
        ("100,000 nested lists", head(&[&[15, 0, 9][..], &[15, 0, 0, 0, 1].repeat(100_000)].concat())),
        ("100,000 nested Compact structs", compact(&[0x1C].repeat(100_000))),
        ("a Compact length of 2^63", compact(&[0x18, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F])),
        ("a Compact length without end", compact(&[&[0x18][..], &[0xFF; 1_000]].concat())),
        (
            "Compact field ids out of bounds",
            compact(&[&[0x03, 0xFE, 0xFF, 0x03, 0][..], &[0xF3, 0].repeat(10)].concat()),
        ),
        ("a TTHeader of 4 GiB", vec![0xFF, 0xFF, 0xFF, 0xFF, 0x10, 0x00]),
        ("a THeader of 4 GiB", vec![0xFF, 0xFF, 0xFF, 0xFF, 0x0F, 0xFF]),
        ("a frame of 2 GiB", vec![0x7F, 0xFF, 0xFF, 0xFF, 0x80, 0x01]),
        ("a frame below zero", vec![0xFF, 0xFF, 0xFF, 0xFF, 0x80, 0x01]),
        (
            "a header longer than its frame",
            with_length([&[0x10, 0, 0, 0, 0, 0, 0, 1, 0xFF, 0xFF][..], &[0; 8]].concat()),
        ),
        (
            "a header info longer than its header",
            with_length([&[0x10, 0, 0, 0, 0, 0, 0, 1, 0, 2, 0, 0, 1, 0xFF, 0xFF][..], &[0; 3]].concat()),
        ),
        ("255 transforms", with_length([&[0x10, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0xFF][..], &[0; 8]].concat())),
        ("a zlib bomb", with_length(bomb())),
        ("a name of 2 GiB", vec![0x80, 1, 0, 1, 0x7F, 0xFF, 0xFF, 0xFF]),
        (
            "a name that is not UTF-8",
            encode(&call("\u{0}", 1, Value::Struct(vec![])), UNFRAMED)
                .iter()
                .map(|b| if *b == 0 { 0xC3 } else { *b })
                .collect(),
        ),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()),
        ("TLS", [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xFC, 3, 3][..], &[7; 508]].concat()),
        ("zeros", vec![0; 100_000]),
        ("ones", vec![0xFF; 100_000]),
        ("text", "hello ".repeat(1_000).into_bytes()),
    ] {
        cases.push((what.to_owned(), bytes));
    }
    cases
}

/// A THeader frame whose payload grows a thousandfold.
fn bomb() -> Vec<u8> {
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    zlib.write_all(&vec![0; 64 << 20]).expect("into memory");
    [&[0x0F, 0xFF, 0, 0, 0, 0, 0, 1, 0, 1, 0, 1, 1, 0][..], &zlib.finish().expect("into memory")].concat()
}

/// Calls as a caller who does as he should; the 99th percentile of how long each call took.
fn p99_of_a_good_caller(server: &Program) -> Duration {
    let mut took: Vec<_> = (0..100).map(|_| is_served(server)).collect();
    took.sort();
    took[99]
}

#[test]
fn thousands_of_hostile_messages_move_neither_the_process_nor_its_memory() {
    let (server, _dir) = start(&[]);
    is_served(&server);
    let (before, cases) = (memory_bytes(&server), Arc::new(cases()));
    assert!(cases.len() > 5_000);
    thread::scope(|scope| {
        for worker in 0..8 {
            let (cases, server) = (cases.clone(), &server);
            scope.spawn(move || {
                for (what, bytes) in cases.iter().skip(worker).step_by(8) {
                    let mut stream = connect(server);
                    let _ = stream.write_all(bytes); // the server may have closed it already
                    let _ = stream.shutdown(Shutdown::Write);
                    let mut answer = Vec::new();
                    let _ = (&mut stream).take(1 << 20).read_to_end(&mut answer);
                    assert!(answer.len() < 1_000_000, "{what}");
                }
            });
        }
    });
    is_served(&server);
    let grown = memory_bytes(&server).saturating_sub(before);
    assert!(grown < MEMORY_GROWTH_MAX, "memory grew by {grown} bytes");
    assert!(!server.logs().iter().any(|l| l.contains("panic")), "{:?}", server.logs());
}

#[test]
fn declared_lengths_take_no_memory_and_slow_senders_are_closed() {
    let (server, _dir) = start(&[]);
    is_served(&server);
    let before = memory_bytes(&server);
    let announced = [
        [&[0x80, 1, 0, 1, 0, 0, 0, 4][..], b"Send", &[0, 0, 0, 1, 12, 0, 1, 12, 0, 1, 11, 0, 1, 0, 0x7F, 0, 0]]
            .concat(),
        vec![0, 0x7F, 0, 0, 0x80, 0x01],
        vec![0, 0x7F, 0, 0, 0x10, 0x00],
        vec![0, 0x7F, 0, 0, 0x0F, 0xFF],
    ];
    let mut streams: Vec<_> = (0..400).map(|_| connect(&server)).collect();
    for (i, stream) in streams.iter_mut().enumerate() {
        stream.write_all(&announced[i % announced.len()]).expect("written");
    }
    thread::sleep(Duration::from_millis(300));
    is_served(&server);
    let grown = memory_bytes(&server).saturating_sub(before);
    assert!(grown < 20 << 20, "400 connections that announced 8 MB each took {grown} bytes");
    for stream in &mut streams {
        assert!(
            !matches!(stream.read(&mut [0; 64]), Err(e) if e.kind() == std::io::ErrorKind::WouldBlock),
            "closed in time"
        );
    }
}

#[test]
fn unfinished_messages_share_a_bounded_memory() {
    let (server, _dir) = start(&["--rpc-buffer-bytes-max", "4194304"]);
    is_served(&server);
    let before = memory_bytes(&server);
    let streams: Vec<_> = (0..32)
        .map(|_| {
            let mut stream = connect(&server);
            let _ = stream.write_all(&[&[0, 0x7F, 0, 0, 0x80, 0x01][..], &vec![0; 1 << 20]].concat());
            stream
        })
        .collect();
    is_served(&server);
    let grown = memory_bytes(&server).saturating_sub(before);
    assert!(grown < 24 << 20, "32 unfinished MiB took {grown} bytes");
    drop(streams);
}

#[test]
fn messages_that_wait_for_their_turn_share_the_bounded_memory_however_well_they_were_packed() {
    let redis = harness::redis::RedisServer::start();
    let args = ["--rpc-addr", "127.0.0.1:0", "--store", &redis.url(), "--rpc-buffer-bytes-max", "16777216"];
    let server = Program::serve(env!("CARGO_BIN_EXE_rpc-server"), &args);
    is_served(&server);
    redis.pause();
    let before = memory_bytes(&server);
    let form = (Protocol::Binary, Envelope::THeaderZlib);
    let (small, packed) =
        (encode(&send(1, "a:b", "x", "a"), form), encode(&send(2, "a:b", &"x".repeat(7 << 20), "a"), form));
    let mut streams: Vec<_> = (0..8).map(|_| connect(&server)).collect();
    for stream in &mut streams {
        stream.write_all(&[&small[..], &packed.repeat(8)].concat()).expect("written");
    }
    thread::sleep(Duration::from_millis(500));
    redis.resume();
    for stream in &mut streams {
        for _ in 0..9 {
            read_reply(stream, form).expect("a reply, of whatever kind");
        }
    }
    let grown = memory_bytes(&server).saturating_sub(before);
    assert!(grown < 96 << 20, "64 packed messages of 7 MiB took {grown} bytes");
}

#[test]
fn thousands_of_idle_connections_keep_nobody_from_being_served() {
    let (server, _dir) = start(&[]);
    is_served(&server);
    let (quiet, before) = (is_served(&server), memory_bytes(&server));
    let descriptors = rlimit::increase_nofile_limit(u64::MAX).expect("raised");
    let idle: Vec<_> = (0..descriptors.saturating_sub(200).min(5_000)).map(|_| connect(&server)).collect();
    let p99 = p99_of_a_good_caller(&server);
    let grown = memory_bytes(&server).saturating_sub(before);
    assert!(grown < idle.len() as u64 * (8 << 10) + (8 << 20), "{} idle connections took {grown} bytes", idle.len());
    assert!(p99 < Duration::from_millis(250), "p99 {p99:?}, {quiet:?} alone");
}
