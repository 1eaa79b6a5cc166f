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
    hostile,
    program::Program,
    thrift::{Envelope, Form, Protocol, Value, encode, pull, read_reply, send},
};
use tempfile::TempDir;

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
    let cases = [hostile::cut(), hostile::with_a_byte_changed(), hostile::with_a_number_changed(), hostile::named()];
    let (before, cases) = (memory_bytes(&server), Arc::new(cases.concat()));
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
fn callers_that_do_not_read_hold_neither_the_places_of_others_nor_more_than_the_shared_memory() {
    let (server, _dir) = start(&["--rpc-calls-max", "16", "--rpc-buffer-bytes-max", "8388608"]);
    is_served(&server);
    let mut writer = connect(&server);
    for sequence_id in 0..16 {
        writer.write_all(&encode(&send(sequence_id, "a:b", &"x".repeat(60_000), "a"), FRAMED)).expect("written");
        read_reply(&mut writer, FRAMED).expect("stored");
    }
    let before = memory_bytes(&server);
    let pulls = encode(&pull(1, "a:b", 16, false), FRAMED).repeat(1_000);
    let mut deaf: Vec<_> = (0..64).map(|_| connect(&server)).collect();
    for stream in &mut deaf {
        stream.set_nonblocking(true).expect("set");
        let _ = stream.write(&pulls); // as much as is taken
    }
    thread::sleep(Duration::from_millis(500));
    for _ in 0..50 {
        is_served(&server);
    }
    let grown = memory_bytes(&server).saturating_sub(before);
    assert!(grown < MEMORY_GROWTH_MAX, "callers that do not read took {grown} bytes");
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
