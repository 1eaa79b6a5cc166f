//! `im`: both servers in one process (`im serve`, also without a word), and a client (`im send`, `im pull`).

mod client;
mod serve;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use server_process::options;

/// Pull-mode messaging: a Thrift and an HTTP server in one process, and a client. Without a command: `im serve`.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: serve::Options,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve Thrift and HTTP over the embedded store (or Redis)
    Serve(Box<serve::Options>),
    /// Send a message
    Send(client::SendOptions),
    /// Show a chat's messages, one a line
    Pull(client::PullOptions),
}

fn main() -> ExitCode {
    server_process::run(start())
}

async fn start() -> anyhow::Result<()> {
    let cli: Cli = options::parse();
    match cli.command.unwrap_or(Command::Serve(Box::new(cli.serve))) {
        Command::Serve(options) => serve::run(*options).await,
        Command::Send(options) => client::send(options).await,
        Command::Pull(options) => client::pull(options).await,
    }
}
