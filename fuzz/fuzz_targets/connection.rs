//! Any bytes through the whole connection loop, on a real socket: it ends, and always with an answer or a close.
#![no_main]

use std::{cell::RefCell, time::Duration};

use libfuzzer_sys::fuzz_target;
use rpc_server::{
    connection::{self, Limits, Shares},
    wire,
};
use server_process::shutdown::CancellationToken;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::Runtime,
};
use volo_gen::rpc::{ImService, PullRequest, PullResponse, SendRequest, SendResponse};
use volo_thrift::ServerError;

struct Echo;

impl ImService for Echo {
    async fn send(&self, _: SendRequest) -> Result<SendResponse, ServerError> {
        tokio::task::yield_now().await;
        Ok(SendResponse::default())
    }

    async fn pull(&self, _: PullRequest) -> Result<PullResponse, ServerError> {
        Ok(PullResponse::default())
    }
}

const LIMITS: Limits = Limits {
    message: wire::Limits { message_bytes_max: 1 << 20, elements_max: 4_096, depth_max: 32 },
    first_byte_timeout: Duration::from_secs(5),
    message_timeout: Duration::from_secs(5),
    idle_timeout: Duration::from_secs(5),
    calls_max: 64,
    buffer_bytes_max: 8 << 20,
};

thread_local! {
    static SERVER: (Runtime, RefCell<TcpListener>) = {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
        (runtime, RefCell::new(listener))
    };
}

fuzz_target!(|data: &[u8]| {
    SERVER.with(|(runtime, listener)| {
        runtime.block_on(async {
            let listener = listener.borrow();
            let addr = listener.local_addr().expect("bound");
            let (client, server) = tokio::join!(TcpStream::connect(addr), listener.accept());
            let (mut client, (server, _)) = (client.expect("connected"), server.expect("accepted"));
            client.set_zero_linger().expect("set"); // no port is kept waiting after millions of runs
            let serving = connection::serve(server, &Echo, Shares::new(LIMITS), CancellationToken::new());
            let calling = async {
                let (mut read, mut write) = client.split();
                let writing = async {
                    let _ = write.write_all(data).await; // the server may have closed it
                    let _ = write.shutdown().await;
                };
                let mut answers = Vec::new();
                let (_, _) = tokio::join!(writing, read.read_to_end(&mut answers));
            };
            tokio::join!(serving, calling);
        });
    });
});
