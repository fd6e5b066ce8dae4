//! The demo's cluster: the scripted model in this process; head and two workers as processes.

use std::{
    ffi::OsString,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::{Command, Stdio},
};

use orchestra_config::StateDir;
use orchestra_proto::v1;
use orchestra_scripted_model::{Server, ServerOptions, script};

use super::stage::Stage;
use crate::{
    app::App,
    client::{Client, status_error},
    commands::{
        start,
        stop::{self, When},
    },
    error::{Error, OrFailed, Result},
    local::daemon::{Role, Starting},
    ui::style::{Line, Style},
};

/// A cluster that runs.
pub struct Cluster {
    /// The app of the cluster's own state directory.
    pub app: App,
    /// The connection to the head.
    pub client: Client,
    second: App,
    model: Server,
}

impl Cluster {
    /// Starts all parts. When one does not start, the others are stopped again.
    pub async fn start(app: &App, stage: &Stage) -> Result<Self> {
        let model = start_model(stage).await?;
        let own = app.in_state(stage.cluster());
        let second = app.in_state(stage.second_worker());
        match bring_up(&own, &second, stage, &model).await {
            Ok(client) => Ok(Self {
                app: own,
                client,
                second,
                model,
            }),
            Err(e) => {
                // The first error is the one to tell.
                let _ = stop_all(&own, &second).await;
                model.stop().await;
                Err(e)
            }
        }
    }

    /// Stops all parts.
    pub async fn stop(self) -> Result<()> {
        let stopped = stop_all(&self.app, &self.second).await;
        self.model.stop().await;
        stopped
    }
}

async fn stop_all(own: &App, second: &App) -> Result<()> {
    let second = stop::stop(second, When::Now).await;
    stop::stop(own, When::Now).await?;
    second.map(|_| ())
}

async fn start_model(stage: &Stage) -> Result<Server> {
    let script = script::builtin("demo").expect("the demo's script is built in");
    let options = ServerOptions {
        record: Some(stage.record()),
    };
    let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    Server::start_with(any_port, script, options)
        .await
        .or_failed(|| "failed to start the scripted model".to_owned())
}

async fn bring_up(own: &App, second: &App, stage: &Stage, model: &Server) -> Result<Client> {
    stage.configure(&stage.cluster(), "worker-1", &model.url())?;
    let config = stage.configure(&stage.second_worker(), "worker-2", &model.url())?;
    let args = start::Args {
        agents: Vec::new(),
        slots: None,
        stop_within: None,
        detach: true,
        listen: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
    };
    start::bring_up(own, &args).await?;
    let client = own.connect().await?;
    join(&client, &stage.second_worker()).await?;
    start_second(&client, second, &config).await?;
    let listen = client.status().await?.listen;
    let line = Line::of(Style::Good, "● ")
        .with(Style::Plain, "head, worker-1, worker-2 ")
        .with(
            Style::Dim,
            format!("· {listen} · scripted model at {}", model.url()),
        );
    own.ui.note(&line);
    Ok(client)
}

/// The second worker joins as one on another machine would: by a token.
async fn join(client: &Client, state: &Path) -> Result<()> {
    let answer = client
        .admin()
        .create_token(v1::CreateTokenRequest { ttl_ms: 0 })
        .await;
    let token = answer.map_err(|s| status_error(&s))?.into_inner().token;
    let failed = || "failed to let the second worker join".to_owned();
    let output = Command::new(std::env::current_exe().or_failed(failed)?)
        .args([Role::Worker.as_str(), "join", "--only", "--state"])
        .arg(state)
        .env("ORCHESTRA_TOKEN", token)
        .stdin(Stdio::null())
        .output()
        .or_failed(failed)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Error::failed(failed()).because(said))
}

async fn start_second(client: &Client, second: &App, config: &Path) -> Result<()> {
    let options: Vec<OsString> = vec!["--config".into(), config.into()];
    let state: &StateDir = &second.state;
    let mut worker = Starting::spawn(Role::Worker, state, options)?;
    let ready = worker.until(async |pid| {
        let workers = client.workers().await?;
        Ok(workers
            .into_iter()
            .find(|w| w.pid == pid && w.state == "connected"))
    });
    match ready.await {
        Ok(_) => Ok(()),
        Err(e) => {
            worker.abandon();
            Err(e)
        }
    }
}
