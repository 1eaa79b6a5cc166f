//! The front before RPC servers of all kinds: one that is away, slow, dying, moved, or not ours.

use std::{
    net::SocketAddr,
    process::Command,
    time::{Duration, Instant},
};

use clap::Parser;
use harness::{free_port, http::request, program::Program};
use rpc_server::server::Server;
use server_process::shutdown::CancellationToken;
use volo_gen::rpc::{ImService, PullRequest, PullResponse, SendRequest, SendResponse};
use volo_thrift::{ApplicationException, ApplicationExceptionKind, BizError, ServerError};

const SEND: &str = "POST /api/send?chat=a:b&sender=a&text=x HTTP/1.1";
const PULL: &str = "GET /api/pull?chat=a:b HTTP/1.1";

/// The Code of every answer, or the exception.
type Outcome = fn() -> Result<i32, ServerError>;

/// An RPC server that answers every call alike, after a while.
#[derive(Clone)]
struct Foreign(Outcome, Duration);

impl ImService for Foreign {
    async fn send(&self, _: SendRequest) -> Result<SendResponse, ServerError> {
        tokio::time::sleep(self.1).await;
        (self.0)().map(|code| SendResponse { code, msg: "as the server says".into() })
    }

    async fn pull(&self, _: PullRequest) -> Result<PullResponse, ServerError> {
        tokio::time::sleep(self.1).await;
        let answer = |code| PullResponse { code, msg: "as the server says".into(), ..PullResponse::default() };
        (self.0)().map(answer)
    }
}

async fn start(service: Foreign) -> (SocketAddr, CancellationToken) {
    let stop = CancellationToken::new();
    (serve("127.0.0.1:0", service, stop.clone()).await, stop)
}

async fn serve(addr: &str, service: Foreign, stop: CancellationToken) -> SocketAddr {
    let port = rpc_server::options::Options::parse_from(["rpc-server"]).port;
    let server = Server::bind(addr, &port).await.expect("a free port");
    let addr = server.local_addr();
    tokio::spawn(async move { server.serve(service, &port, stop).await });
    addr
}

fn front(target: &str) -> Program {
    let args = ["--http-addr", "127.0.0.1:0", "--rpc-target", target];
    Program::serve(env!("CARGO_BIN_EXE_http-server"), &args)
}

async fn ask(front: &Program, head: &'static str) -> (u16, String, String) {
    let addr = front.http();
    let answer = tokio::task::spawn_blocking(move || request(addr, head, b"")).await.expect("no panic");
    (answer.status, answer.text(), answer.header("retry-after").to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn codes_and_exceptions_of_a_foreign_server_become_statuses() {
    let rows: [(Outcome, u16, &str, &str); 9] = [
        (|| Ok(0), 200, "", ""),
        (|| Ok(400), 400, "as the server says", ""),
        (|| Ok(422), 422, "as the server says", ""),
        (|| Ok(503), 503, "as the server says", "1"),
        (|| Ok(504), 504, "as the server says", "1"),
        (|| Ok(1), 500, "as the server says", ""),
        (|| Ok(500), 500, "as the server says", ""),
        (
            || Err(ApplicationException::new(ApplicationExceptionKind::INTERNAL_ERROR, "biz error: no").into()),
            500,
            "biz error: no",
            "",
        ),
        (|| Err(BizError::new(7, "no".into()).into()), 500, "no", ""),
    ];
    for (answer, status, says, retry_after) in rows {
        let (addr, stop) = start(Foreign(answer, Duration::ZERO)).await;
        let front = front(&addr.to_string());
        for head in [SEND, PULL] {
            let (got, said, retry) = ask(&front, head).await;
            assert_eq!((got, retry.as_str()), (status, retry_after), "{head} {said}");
            assert!(said.contains(says), "{said:?} does not say {says:?}");
        }
        stop.cancel();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_away_is_503_at_once_and_found_when_it_comes() {
    let port = free_port();
    let front = front(&format!("localhost:{port}"));
    let start_of_call = Instant::now();
    let (status, said, retry_after) = ask(&front, SEND).await;
    assert_eq!((status, retry_after.as_str()), (503, "1"), "{said}");
    assert!(start_of_call.elapsed() < Duration::from_millis(500));
    serve(&format!("127.0.0.1:{port}"), Foreign(|| Ok(0), Duration::ZERO), CancellationToken::new()).await;
    assert_eq!(ask(&front, SEND).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_does_not_resolve_is_503() {
    assert_eq!(ask(&front("no-such-host.invalid:8888"), PULL).await.0, 503);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_server_is_504_after_a_second() {
    let (addr, _stop) = start(Foreign(|| Ok(0), Duration::from_secs(5))).await;
    let front = front(&addr.to_string());
    let start_of_call = Instant::now();
    let (status, said, retry_after) = ask(&front, SEND).await;
    assert_eq!((status, retry_after.as_str()), (504, "1"), "{said}");
    assert!((Duration::from_millis(900)..Duration::from_millis(1_500)).contains(&start_of_call.elapsed()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_server_among_living_ones_fails_no_call() {
    let (addr, _stop) = start(Foreign(|| Ok(0), Duration::ZERO)).await;
    let front = front(&format!("127.0.0.1:{},{addr}", free_port()));
    for _ in 0..20 {
        assert_eq!(ask(&front, SEND).await.0, 200);
    }
}

#[test]
fn a_target_that_is_none_stops_the_start_with_a_sentence() {
    for target in ["nonsense", "host:", ":8888", "host:0", "host:99999"] {
        let out = Command::new(env!("CARGO_BIN_EXE_http-server")).args(["--rpc-target", target]).output();
        let out = out.expect("it runs");
        let complaint = String::from_utf8(out.stderr).expect("UTF-8");
        assert!(!out.status.success() && complaint.contains("--rpc-target"), "{target:?}: {complaint}");
    }
}
