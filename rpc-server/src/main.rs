//! The RPC server alone: options, store, port, serve until a signal.

use std::process::ExitCode;

use clap::Parser;
use rpc_server::{options::ServiceOptions, server::Server, service::Service, store};
use server_process::{
    logs::{self, LogOptions},
    options::{self, ConfigFile},
    shutdown,
};
use tracing::info;

/// The Thrift service IMService (Send, Pull) over Redis or an embedded store.
#[derive(Debug, Parser)]
#[command(version)]
struct Options {
    /// Where to listen; port 0 takes any free one
    #[arg(long, env = "IM_RPC_ADDR", value_name = "HOST:PORT", default_value = "0.0.0.0:8888")]
    rpc_addr: String,
    #[command(flatten)]
    service: ServiceOptions,
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
    let server = Server::bind(&options.rpc_addr).await?;
    let store = store::open(&options.service.store).await?;
    info!(rpc = %server.local_addr(), store = %options.service.store, "serving");
    server.serve(Service::new(store, options.service.limits()), stop).await;
    Ok(())
}
