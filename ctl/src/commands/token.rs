//! `ctl token`.

mod list;
mod revoke;

use std::time::Duration;

use orchestra_proto::v1;
use orchestra_types::{
    limits::{TOKEN_TTL, TOKEN_TTL_MAX},
    time::{millis, parse_duration},
};
use serde::Serialize;

use crate::{
    app::App,
    changing,
    error::{Error, Result},
    exit::Exit,
    json::{some, time::Time},
    ui::time::duration,
};

/// Make, list and revoke tokens that let another machine join the cluster
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  ctl token create --ttl 10m
  ctl token list                     which are open, and who has joined with the others
  ctl token revoke 3f9a01c2          nobody joins with it from now on")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Create(Create),
    List(list::Args),
    Revoke(revoke::Args),
}

/// Make a token that works once, and print the command to run on the other machine
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The head must listen where the other machine can reach it: `ctl start --listen 0.0.0.0:7117`, after
`ctl stop` where it runs already, and `head.advertise` in orchestra.yaml if that machine knows it by
another address. A head that a service manager runs takes its address from `head.listen` there.")]
struct Create {
    /// How long the token may be used, at most 7 days. Default: 1h
    #[arg(long, value_name = "DURATION", value_parser = ttl, allow_hyphen_values = true)]
    ttl: Option<Duration>,
    /// The machine that shall join, which no token names
    #[arg(value_name = "MACHINE", hide = true)]
    machine: Option<String>,
}

/// `ctl token create --json`.
#[derive(Debug, Serialize)]
struct Token {
    /// Null from an earlier head.
    id: Option<String>,
    token: String,
    head: String,
    expires_at: Time,
    command: String,
}

/// Makes, lists or revokes them.
pub async fn run(app: &App, args: Args) -> Result<Exit> {
    match args.command {
        Command::Create(args) => create(app, args).await,
        Command::List(args) => list::run(app, args).await,
        Command::Revoke(args) => revoke::run(app, args).await,
    }
}

async fn create(app: &App, Create { ttl, machine }: Create) -> Result<Exit> {
    if let Some(machine) = machine {
        return Err(names_no_machine(&machine));
    }
    let ttl_ms = ttl.map_or(0, millis);
    let client = app.connect().await?;
    let request = v1::CreateTokenRequest { ttl_ms };
    let call = async { client.admin().create_token(request).await };
    let answer = changing::once(
        call,
        "make another one: nobody knows this one, and `ctl token list` shows it if it was made",
    )
    .await?;
    let out_of_reach = match is_loopback(&answer.head) {
        // The token is made, and is shown whatever the head says now.
        true => Some(
            client
                .status()
                .await
                .map_or_else(|_| answer.head.clone(), |s| s.listen),
        ),
        false => None,
    };
    let command = command(&answer.head, &answer.token);
    let expires_at = Time::from_ms(answer.expires_at_ms);
    let token = Token {
        id: some(answer.id),
        token: answer.token,
        head: answer.head,
        expires_at,
        command,
    };
    let done = || "a token is made".to_owned();
    app.show_done(&token, done, |token| {
        app.ui.print(format!("{}\n", token.command))?;
        app.ui.next(once(ttl, token.id.as_deref()));
        if let Some(listen) = &out_of_reach {
            let (warning, next) = unreachable(&token.head, listen);
            app.ui.warn(warning);
            app.ui.next(next);
        }
        Ok(())
    })
}

/// Who names the machine that shall join, or the head's address, can leave it out.
fn names_no_machine(named: &str) -> Error {
    Error::usage(format!(
        "a token names no machine, and no address, as `{named}`: whichever uses it first has joined"
    ))
    .hint(
        "`ctl token create` prints the command to run there, with the head's address, which head.advertise in \
         orchestra.yaml sets as HOST:PORT",
    )
}

/// What joins. The token is in the environment: the arguments of a process are for all users of its machine
/// to see.
fn command(head: &str, token: &str) -> String {
    format!("ORCHESTRA_TOKEN={token} orchestra-worker join --head {head}")
}

/// How long it works. Not by `expires_at`, which the head's clock has made: the one here may be another.
fn once(ttl: Option<Duration>, id: Option<&str>) -> String {
    let left = duration(ttl.unwrap_or(TOKEN_TTL));
    let unless = id.map_or_else(String::new, |id| {
        format!(", unless `ctl token revoke {id}` ends it")
    });
    format!("run it on the machine that shall join; it works once, within {left}{unless}")
}

/// What is wrong with a token that names loopback, and what to do: nobody else can dial it, wherever the head listens.
fn unreachable(named: &str, listen: &str) -> (String, String) {
    if is_loopback(listen) {
        let why = format!("the head listens on {listen} only, which no other machine reaches");
        return (why, restart(listen));
    }
    let port = listen.rsplit_once(':').map_or("7117", |(_, port)| port);
    (
        format!(
            "the token names {named}, which no other machine reaches: the head listens on {listen}, but head.advertise \
             in orchestra.yaml says so"
        ),
        format!(
            "next: set head.advertise to what other machines reach this one by, as head.example:{port}, or remove it \
             for the host name; restart the head, and make a new token, since this one names the old address"
        ),
    )
}

/// How a head on loopback comes to listen for other machines: a start alone leaves it as it is.
fn restart(head: &str) -> String {
    let port = head.rsplit_once(':').map_or("7117", |(_, port)| port);
    format!(
        "next: `ctl stop`, `ctl start --detach --listen 0.0.0.0:{port}`, and a new token, since this one names \
         the old address; where a service manager runs the head, set head.listen to 0.0.0.0:{port} in \
         orchestra.yaml and restart its service instead; set head.advertise in orchestra.yaml before, if other machines do not know this one \
         by its host name"
    )
}

fn is_loopback(head: &str) -> bool {
    let host = head.rsplit_once(':').map_or(head, |(host, _)| host);
    host == "localhost"
        || host
            .trim_matches(['[', ']'])
            .parse()
            .is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}

fn ttl(text: &str) -> std::result::Result<Duration, String> {
    match parse_duration(text) {
        Ok(Duration::ZERO) => Err("a token must live longer than that".to_owned()),
        Ok(long) if long > TOKEN_TTL_MAX => Err(format!(
            "a token may live {} at most; make a new one when it is wanted",
            duration(TOKEN_TTL_MAX)
        )),
        other => other.map_err(|e| e.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_on_loopback_is_stopped_before_it_is_started_on_its_port() {
        let said = restart("127.0.0.1:40197");
        let stop = said.find("`ctl stop`").unwrap();
        let start = "`ctl start --detach --listen 0.0.0.0:40197`";
        assert!(said[stop..].contains(start), "{said}");
        let service = "head.listen to 0.0.0.0:40197 in orchestra.yaml";
        assert!(said.contains(service), "{said}");
    }

    #[test]
    fn what_makes_a_token_useless_elsewhere_is_named() {
        let (why, next) = unreachable("127.0.0.1:7117", "127.0.0.1:7117");
        assert!(why.starts_with("the head listens on 127.0.0.1:7117 only"));
        assert_eq!(next, restart("127.0.0.1:7117"));
        let (why, next) = unreachable("localhost:7117", "0.0.0.0:7200");
        assert!(why.contains("listens on 0.0.0.0:7200, but head.advertise"));
        assert!(next.contains("set head.advertise to"), "{next}");
        assert!(next.contains("head.example:7200"), "{next}");
    }

    #[test]
    fn how_long_it_works_is_said_without_a_clock() {
        let hour = once(None, None);
        assert!(hour.ends_with("once, within 1h"), "{hour}");
        let two = once(Some(Duration::from_secs(120)), Some("0a1b2c3d"));
        let end = "once, within 2m, unless `ctl token revoke 0a1b2c3d` ends it";
        assert!(two.ends_with(end), "{two}");
    }

    #[test]
    fn the_token_is_no_argument() {
        let said = command("h:7117", "ORCH1.x");
        let arguments = said.split_once("orchestra-worker").unwrap().1;
        assert_eq!(arguments, " join --head h:7117");
        assert!(said.starts_with("ORCHESTRA_TOKEN=ORCH1.x "), "{said}");
    }

    #[test]
    fn a_token_lives_as_long_as_was_asked_or_is_not_made() {
        assert_eq!(ttl("7d"), Ok(TOKEN_TTL_MAX));
        assert!(ttl("0s").is_err());
        let error = ttl("8d").unwrap_err();
        assert!(error.starts_with("a token may live 7d at most"), "{error}");
    }
}
