//! The HTTP front alone: options, RPC client, port, serve until a signal.

use std::process::ExitCode;

use clap::Parser;
use http_server::{
    options::{FrontOptions, RpcOptions},
    rpc_client::RpcClient,
    server::Server,
};
use server_process::{
    logs::{self, LogOptions},
    options::{self, ConfigFile},
    shutdown,
};
use tracing::info;

/// The JSON HTTP front of IMService.
#[derive(Debug, Parser)]
#[command(version)]
struct Options {
    /// Where to listen; port 0 takes any free one
    #[arg(long, env = "IM_HTTP_ADDR", value_name = "HOST:PORT", default_value = "0.0.0.0:8080")]
    http_addr: String,
    #[command(flatten)]
    rpc: RpcOptions,
    #[command(flatten)]
    front: FrontOptions,
    #[command(flatten)]
    log: LogOptions,
    #[command(flatten)]
    _config: ConfigFile,
}

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
