//! The command: serve until a signal.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use anyhow::Context;

use crate::{
    script,
    server::{Server, ServerOptions},
};

/// Serve a model that follows a script
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDRESS")]
    pub listen: SocketAddr,
    /// A built-in script (demo, echo, hello) or a YAML or JSON file.
    #[arg(long, default_value = "hello", value_name = "NAME|FILE")]
    pub script: String,
    /// Append every request to this file, one JSON object a line.
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
}

/// Serves until SIGINT or SIGTERM, in a runtime of its own.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("failed to start the runtime")?;
    runtime.block_on(serve(args)).map(|()| ExitCode::SUCCESS)
}

/// Serves until SIGINT or SIGTERM. Prints `{"listening":"HOST:PORT"}` when it is ready.
pub async fn serve(args: Args) -> anyhow::Result<()> {
    let script = script::load(&args.script)?;
    let options = ServerOptions {
        record: args.record,
    };
    let server = Server::start_with(args.listen, script, options)
        .await
        .with_context(|| format!("failed to serve on {}", args.listen))?;
    eprintln!(
        "This is not an AI model: every answer follows the script `{}`.",
        args.script
    );
    println!(
        "{}",
        serde_json::json!({ "listening": server.addr().to_string() })
    );
    stop_signal().await.context("failed to wait for a signal")?;
    server.stop().await;
    Ok(())
}

async fn stop_signal() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
