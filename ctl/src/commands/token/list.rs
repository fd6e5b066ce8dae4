//! `ctl token list`.

use std::collections::BTreeMap;

use orchestra_proto::v1;
use orchestra_types::Timestamp;
use serde::Serialize;

use crate::{
    app::App,
    client::{Client, patiently},
    error::Result,
    exit::Exit,
    json::token::{State, Token},
    ui::{
        escape::line,
        now,
        style::Style,
        table::{Cell, Table},
        time::{ago, duration},
    },
};

/// List tokens that were made: which are open, until when, and who has joined with the others
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The token itself is never shown again: the head keeps none of it. A token is listed until a week after its
time; those with which a worker joined that was revoked since are not listed.")]
pub struct Args {}

/// `ctl token list --json`, and of `revoke`.
#[derive(Debug, Serialize)]
pub struct Tokens {
    /// The oldest first.
    pub tokens: Vec<Token>,
}

/// Lists them.
pub async fn run(app: &App, Args {}: Args) -> Result<Exit> {
    let client = app.connect().await?;
    let tokens = tokens(&client).await?;
    let names = client.worker_names().await?;
    app.show(&Tokens { tokens }, |document| {
        if document.tokens.is_empty() {
            app.ui.next("no join tokens; `ctl token create` makes one");
            return Ok(());
        }
        app.ui.table(&table(&document.tokens, &names, now()))
    })
}

/// Those that the head knows of.
pub async fn tokens(client: &Client) -> Result<Vec<Token>> {
    let request = v1::ListTokensRequest {};
    let answer = patiently(async || client.admin().list_tokens(request).await).await?;
    answer.tokens.into_iter().map(Token::read).collect()
}

/// For people, who know workers by their names.
pub fn table(tokens: &[Token], names: &BTreeMap<String, String>, now: Timestamp) -> Table {
    let mut table =
        Table::new(&["TOKEN", "STATE", "UNTIL", "CREATED", "JOINED…"]).sparing(&["CREATED"]);
    for token in tokens {
        let joined = token.used_by.as_ref();
        let joined = joined.map_or("-", |worker| names.get(worker).unwrap_or(worker));
        let (state, style) = state(token.state);
        let created = token.created_at;
        table.row(vec![
            Cell::new(line(&token.id), Style::Bold),
            Cell::new(state, style),
            until(token, now).into(),
            Cell::new(
                created.map_or_else(|| "-".to_owned(), |at| ago(at.0, now)),
                Style::Dim,
            ),
            line(joined).into_owned().into(),
        ]);
    }
    table
}

fn state(state: State) -> (&'static str, Style) {
    match state {
        State::Open => ("open", Style::Attention),
        State::Used => ("used", Style::Plain),
        State::Expired => ("expired", Style::Dim),
        State::Revoked => ("revoked", Style::Dim),
    }
}

/// How long an open one works yet.
fn until(token: &Token, now: Timestamp) -> String {
    match token.state {
        State::Open => format!("in {}", duration(token.expires_at.0.since(now))),
        State::Used | State::Expired | State::Revoked => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::time::Time;

    fn token(state: State) -> Token {
        Token {
            id: "0a1b2c3d".to_owned(),
            state,
            created_at: None,
            expires_at: Time::from_ms(3_600_000),
            used_by: None,
        }
    }

    #[test]
    fn who_joined_is_called_by_a_name_where_one_is_known() {
        let joined = |worker: &str| Token {
            used_by: Some(worker.to_owned()),
            ..token(State::Used)
        };
        let tokens = [joined("id-1"), joined("id-2"), token(State::Open)];
        let names = BTreeMap::from([("id-1".to_owned(), "builder".to_owned())]);
        let shown = table(&tokens, &names, Timestamp(0)).render(None, false);
        let last = |line: &str| line.split_whitespace().last().unwrap().to_owned();
        let shown: Vec<_> = shown.lines().map(last).collect();
        assert_eq!(shown, ["JOINED", "builder", "id-2", "-"]);
    }

    #[test]
    fn only_an_open_token_works_for_a_while() {
        assert_eq!(until(&token(State::Open), Timestamp(0)), "in 1h");
        for over in [State::Used, State::Expired, State::Revoked] {
            assert_eq!(until(&token(over), Timestamp(0)), "-");
        }
    }
}
