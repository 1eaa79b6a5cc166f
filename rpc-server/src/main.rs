//! The RPC server alone: options, store, port, serve until a signal.

use std::process::ExitCode;

use rpc_server::{options::Options, server::Server, service::Service, store};
use server_process::{logs, options, shutdown};
use tracing::info;

fn main() -> ExitCode {
    server_process::run(start())
}

async fn start() -> anyhow::Result<()> {
    let options: Options = options::parse();
    logs::init(&options.log);
    let stop = shutdown::on_signal()?;
    let server = Server::bind(&options.rpc_addr, &options.port).await?;
    let store = store::open(&options.service.store).await?;
    info!(rpc = %server.local_addr(), store = %options.service.store, "serving");
    let service = Service::new(store, options.service.limits());
    server.serve(service, &options.port, stop).await;
    Ok(())
}
