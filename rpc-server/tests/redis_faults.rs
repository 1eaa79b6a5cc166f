//! Redis is killed, paused, full, cut off or used by others, under a living server.

use std::{
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use harness::{
    calls::{assert_stored_once, client, pull, pull_all, send, texts},
    free_port,
    program::Program,
    redis::RedisServer,
};
use http_server::rpc_client::RpcClient;
use tokio::{task::JoinSet, time::sleep};

/// Callers of the Go services wait a second.
const DEADLINE: Duration = Duration::from_secs(1);

fn serve(store: &str) -> Program {
    Program::serve(env!("CARGO_BIN_EXE_rpc-server"), &["--rpc-addr", "127.0.0.1:0", "--store", store])
}

/// Sends on and on; returns the texts that were acknowledged.
async fn write_until(client: RpcClient, name: String, stop: Arc<AtomicBool>) -> Vec<String> {
    let mut acknowledged = Vec::new();
    for i in 0.. {
        if stop.load(Ordering::Acquire) {
            break;
        }
        let text = format!("{name}/{i}");
        let start = Instant::now();
        let (code, msg) = send(&client, "a:b", &text, "a").await;
        assert!(start.elapsed() < DEADLINE, "{code} {msg} after {:?}", start.elapsed());
        match code {
            0 => acknowledged.push(text),
            503 | 504 => sleep(Duration::from_millis(5)).await,
            _ => panic!("{code} {msg}"),
        }
    }
    acknowledged
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_killed_ten_times_loses_and_doubles_nothing_acknowledged() {
    let mut redis = RedisServer::start_durable();
    let server = serve(&redis.url());
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = JoinSet::new();
    for w in 0..16 {
        writers.spawn(write_until(client(server.rpc()), w.to_string(), stop.clone()));
    }
    let client = client(server.rpc());
    for _ in 0..10 {
        sleep(Duration::from_millis(150)).await;
        redis.kill();
        sleep(Duration::from_millis(100)).await;
        let start = Instant::now();
        assert_eq!(send(&client, "c:d", "while away", "c").await.0, 503);
        assert_eq!(pull(&client, "c:d", 0, 10, false).await.code, 503);
        assert!(start.elapsed() < Duration::from_millis(100), "503 is fast: {:?}", start.elapsed());
        redis.restart();
        let back = Instant::now();
        while send(&client, "e:f", "back", "e").await.0 != 0 || pull(&client, "e:f", 0, 1, true).await.code != 0 {
            sleep(Duration::from_millis(5)).await;
        }
        assert!(back.elapsed() < Duration::from_secs(1), "serves again after {:?}", back.elapsed());
    }
    stop.store(true, Ordering::Release);
    let acknowledged: Vec<_> = writers.join_all().await.into_iter().flatten().collect();
    assert!(acknowledged.len() > 500, "only {} were acknowledged", acknowledged.len());
    assert_stored_once(&client, "a:b", &acknowledged).await;
    assert_eq!(pull_all(&client, "c:d").await, [], "what was refused is not there");
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_break_under_way_lose_and_double_nothing_and_no_send_fails() {
    let redis = RedisServer::start();
    let server = serve(&redis.url());
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = JoinSet::new();
    for w in 0..16 {
        let (client, stop) = (client(server.rpc()), stop.clone());
        writers.spawn(async move {
            let mut acknowledged = Vec::new();
            while !stop.load(Ordering::Acquire) {
                let text = format!("{w}/{}", acknowledged.len());
                assert_eq!(send(&client, "a:b", &text, "a").await, (0, "success".into()));
                acknowledged.push(text);
            }
            acknowledged
        });
    }
    for _ in 0..20 {
        sleep(Duration::from_millis(50)).await;
        redis.command(&["CLIENT", "KILL", "TYPE", "normal"]);
    }
    stop.store(true, Ordering::Release);
    let acknowledged: Vec<_> = writers.join_all().await.into_iter().flatten().collect();
    let client = client(server.rpc());
    assert_stored_once(&client, "a:b", &acknowledged).await;
    assert_eq!(pull_all(&client, "a:b").await.len(), acknowledged.len());
}

#[tokio::test]
async fn a_redis_that_hangs_is_504_within_the_deadline_and_serves_again_when_it_goes_on() {
    let redis = RedisServer::start();
    let server = serve(&redis.url());
    let client = client(server.rpc());
    assert_eq!(send(&client, "a:b", "before", "a").await.0, 0);
    redis.pause();
    let start = Instant::now();
    assert_eq!(send(&client, "a:b", "meanwhile", "a").await.0, 504);
    assert!(start.elapsed() < DEADLINE);
    assert_eq!(pull(&client, "a:b", 0, 10, false).await.code, 504);
    sleep(Duration::from_secs(3)).await; // by now its connections were given up
    assert_eq!(send(&client, "a:b", "meanwhile", "a").await.0, 503);
    redis.resume();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(send(&client, "a:b", "after", "a").await.0, 0);
}

#[tokio::test]
async fn a_redis_that_is_full_refuses_sends_with_503_and_serves_pulls() {
    let redis = RedisServer::start();
    let server = serve(&redis.url());
    let client = client(server.rpc());
    assert_eq!(send(&client, "a:b", "before", "a").await.0, 0);
    redis.command(&["CONFIG", "SET", "maxmemory", "1mb"]);
    assert_eq!(send(&client, "a:b", "x", "a").await, (503, "the message store is full".into()));
    assert_eq!(texts(&pull(&client, "a:b", 0, 10, false).await).len(), 1);
    redis.command(&["CONFIG", "SET", "maxmemory", "0"]);
    assert_eq!(send(&client, "a:b", "after", "a").await.0, 0);
}

#[tokio::test]
async fn a_redis_that_is_away_at_the_start_is_found_when_it_comes() {
    let mut redis = RedisServer::start();
    redis.kill();
    let server = serve(&redis.url());
    let client = client(server.rpc());
    assert_eq!(send(&client, "a:b", "x", "a").await.0, 503);
    redis.restart();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(send(&client, "a:b", "x", "a").await.0, 0);
}

#[tokio::test]
async fn user_password_and_database_of_the_url_are_used() {
    let redis = RedisServer::start_with(&["--user", "im", "on", ">secret", "~im:*", "+@all"]);
    let url = |user_info: &str| redis.url().replace("127.0.0.1", &format!("{user_info}127.0.0.1")) + "/2";
    let wrong = serve(&url("im:wrong@"));
    assert_eq!(send(&client(wrong.rpc()), "a:b", "x", "a").await.0, 503);
    let right = serve(&url("im:secret@"));
    sleep(Duration::from_millis(100)).await;
    assert_eq!(send(&client(right.rpc()), "a:b", "x", "a").await.0, 0);
    assert!(redis.command(&["INFO", "keyspace"]).contains("db2:keys=1"));
    let logs = [wrong.logs(), right.logs()].concat().join("\n");
    assert!(!logs.contains("secret") && !logs.contains("wrong@"), "{logs}");
}

#[tokio::test]
async fn rediss_speaks_tls_to_a_server_whose_certificate_the_system_trusts() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (cert, key, port) = (path("cert.pem"), path("key.pem"), free_port().to_string());
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"])
        .args([
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost",
            "-addext",
            "basicConstraints=CA:FALSE",
        ])
        .args(["-keyout", &key, "-out", &cert])
        .output()
        .expect("openssl runs: install Debian's package openssl");
    assert!(made.status.success());
    let tls = ["--tls-port", &port, "--tls-cert-file", &cert, "--tls-key-file", &key, "--tls-auth-clients", "no"];
    let _redis = RedisServer::start_with(&tls);

    let url = format!("rediss://localhost:{port}");
    let args = ["--rpc-addr", "127.0.0.1:0", "--store", &url];
    let rpc_server = env!("CARGO_BIN_EXE_rpc-server");
    let trusting = Program::serve_command(Command::new(rpc_server).args(args).env("SSL_CERT_FILE", &cert));
    assert_eq!(send(&client(trusting.rpc()), "a:b", "x", "a").await, (0, "success".into()));
    let doubting = Program::serve(rpc_server, &args);
    assert_eq!(send(&client(doubting.rpc()), "a:b", "x", "a").await.0, 503);
}

#[tokio::test]
async fn a_message_goes_after_one_whose_time_lies_ahead() {
    let redis = RedisServer::start();
    let server = serve(&redis.url());
    let client = client(server.rpc());
    let ahead = 9_000_000_000_000_000_i64;
    redis.command(&["XADD", "im:log:{a:b}", &format!("{ahead}-0"), "s", "a", "t", "ahead"]);
    for text in ["one", "two"] {
        assert_eq!(send(&client, "a:b", text, "a").await.0, 0);
    }
    let expected = [(ahead, "ahead"), (ahead + 1, "one"), (ahead + 2, "two")].map(|(time, t)| (time, t.to_owned()));
    assert_eq!(pull_all(&client, "a:b").await, expected);
}

#[tokio::test]
async fn what_others_put_into_a_room_is_passed_over() {
    let redis = RedisServer::start();
    let server = serve(&redis.url());
    let client = client(server.rpc());
    for us in 5..505 {
        redis.command(&["XADD", "im:log:{a:b}", &format!("{us}-0"), "other", "fields"]);
    }
    redis.command(&["XADD", "im:log:{a:b}", "600-7", "s", "a", "t", "x"]);
    assert_eq!(send(&client, "a:b", "mine", "a").await.0, 0);
    let mine: Vec<_> = pull_all(&client, "a:b").await.into_iter().map(|(_, text)| text).collect();
    assert_eq!(mine, ["mine"]);
    for reverse in [false, true] {
        assert_eq!(texts(&pull(&client, "a:b", 0, 1, reverse).await)[0].1, "mine");
    }
    redis.command(&["SET", "im:log:{c:d}", "no stream"]);
    assert_eq!(send(&client, "c:d", "x", "c").await.0, 503);
    assert_eq!(pull(&client, "c:d", 0, 10, false).await.code, 503);
}
