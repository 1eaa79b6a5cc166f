//! `im serve`: the HTTP front calls the service itself, no socket between.

use std::{io::Write, net::SocketAddr};

use http_server::{options::FrontOptions, server::Server as HttpServer};
use rpc_server::{
    options::{PortOptions, ServiceOptions},
    server::Server as RpcServer,
    service::Service,
    store::{self, StoreUrl},
};
use server_process::{
    logs::{self, LogOptions},
    options::ConfigFile,
    shutdown,
};
use tracing::info;

/// The options of `im serve`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Where to listen for Thrift; port 0 takes any free one
    #[arg(long, env = "IM_RPC_ADDR", value_name = "HOST:PORT", default_value = "127.0.0.1:8888")]
    rpc_addr: String,
    /// Where to listen for HTTP; port 0 takes any free one
    #[arg(long, env = "IM_HTTP_ADDR", value_name = "HOST:PORT", default_value = "127.0.0.1:8080")]
    http_addr: String,
    #[command(flatten)]
    port: PortOptions,
    #[command(flatten)]
    service: ServiceOptions,
    #[command(flatten)]
    front: FrontOptions,
    #[command(flatten)]
    log: LogOptions,
    #[command(flatten)]
    _config: ConfigFile,
}

/// Serves until a signal.
pub async fn run(options: Options) -> anyhow::Result<()> {
    logs::init(&options.log);
    let stop = shutdown::on_signal()?;
    let rpc = RpcServer::bind(&options.rpc_addr, &options.port).await?;
    let http = HttpServer::bind(&options.http_addr, options.front.limits()).await?;
    let store = store::open(&options.service.store).await?;
    let service = Service::new(store, options.service.limits());
    let (rpc_addr, http_addr) = (rpc.local_addr(), http.local_addr());
    info!(rpc = %rpc_addr, http = %http_addr, store = %options.service.store, "serving");
    welcome(rpc_addr, http_addr, &options.service.store);
    tokio::join!(rpc.serve(service.clone(), &options.port, stop.clone()), http.serve(service, stop));
    Ok(())
}

/// Tells a person what to try. Nobody may be listening, so nothing depends on it.
fn welcome(rpc: SocketAddr, http: SocketAddr, store: &StoreUrl) {
    let body = r#"{"chat":"alice:bob","text":"hi","sender":"alice"}"#;
    let _ = writeln!(
        std::io::stdout(),
        "Thrift on {rpc}, HTTP on http://{http}, messages in {store}. Try:\n  \
         curl -X POST http://{http}/api/send -d '{body}'"
    );
}
