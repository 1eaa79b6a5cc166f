//! The HTTP front alone: options, RPC client, port, serve until a signal.

use std::process::ExitCode;

use http_server::{options::Options, rpc_client::RpcClient, server::Server};
use server_process::{logs, options, shutdown};
use tracing::info;

fn main() -> ExitCode {
    server_process::run(start())
}

async fn start() -> anyhow::Result<()> {
    let options: Options = options::parse();
    logs::init(&options.log);
    let stop = shutdown::on_signal()?;
    let server = Server::bind(&options.http_addr, options.front.limits()).await?;
    info!(http = %server.local_addr(), "serving");
    server.serve(RpcClient::new(options.rpc), stop).await;
    Ok(())
}
