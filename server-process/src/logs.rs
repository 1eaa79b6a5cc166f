//! Logs: one line an event on standard error, as text for a person or JSON for a collector.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

/// What is logged and how it looks; flatten it into a program's options.
#[derive(Debug, Clone, clap::Args)]
pub struct LogOptions {
    /// What is logged: a level, or a filter as "info,rpc_server=debug"
    #[arg(long = "log", env = "IM_LOG", value_name = "FILTER", default_value = "info", value_parser = filter)]
    pub log: String,

    /// How a line looks; by default `text` on a terminal, else `json`
    #[arg(long, env = "IM_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For a person at a terminal.
    Text,
    /// For a log collector: one object a line, so that no name or text can forge a line.
    Json,
}

/// What libraries say of their own housekeeping and of each closed connection is not worth a line, unless asked for.
const QUIET: &str = "volo=error,volo_thrift=error,fjall=warn,lsm_tree=warn";

fn filter(value: &str) -> Result<String, String> {
    EnvFilter::try_new(value).map(|_| value.to_owned()).map_err(|e| e.to_string())
}

/// Starts logging for the process. Called once, by `main`.
pub fn init(options: &LogOptions) {
    let json = match options.log_format {
        Some(format) => format == LogFormat::Json,
        None => !io::stderr().is_terminal(),
    };
    let filter = EnvFilter::new(format!("{QUIET},{}", options.log));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    if json {
        lines.json().flatten_event(true).init();
    } else {
        lines.init();
    }
}
