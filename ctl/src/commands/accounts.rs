//! `ctl accounts`.

use orchestra_proto::v1;
use orchestra_types::AccountName;
use serde::Serialize;

use crate::{
    app::App,
    changing,
    client::patiently,
    error::{Result, or_untold},
    exit::Exit,
    json::{account::Account, time::Time},
    ui::{
        escape::line,
        now,
        style::Style,
        table::{Cell, Table},
        time::duration,
    },
};

/// List accounts at providers: what works on each, how much it bears, until when it is parked
#[derive(Debug, clap::Args)]
#[command(after_help = "\
An account is told by a fingerprint of its CLI's credential, so that workers with the same login share
it. When a CLI meets its rate limit or quota, nothing more is started on that account until the
reset, on any worker; the task that met it goes back to the queue and is not charged.

Examples:
  ctl accounts
  ctl accounts set anthropic-3f9a01c2b4d5 --max 4    at most four attempts at once, over all workers
  ctl accounts resume anthropic-3f9a01c2b4d5         it works again: do not wait for the reset")]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Set(Set),
    Resume(Resume),
}

/// Say how many attempts an account may have at once, over all workers
#[derive(Debug, clap::Args)]
struct Set {
    /// The account, as `ctl accounts` shows it
    account: AccountName,
    /// How many; `config` goes back to what orchestra.yaml says
    #[arg(long, value_name = "N", value_parser = max, allow_negative_numbers = true)]
    max: Max,
}

/// Start again on a parked or slowed account, without waiting for its reset
#[derive(Debug, clap::Args)]
struct Resume {
    /// The account, as `ctl accounts` shows it
    account: AccountName,
}

/// How many attempts at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Max {
    AsConfigured,
    AtMost(u32),
}

fn max(text: &str) -> std::result::Result<Max, String> {
    match text {
        "config" => Ok(Max::AsConfigured),
        number => match number.parse() {
            Ok(0) | Err(_) => Err("a number from 1 on, or `config`".to_owned()),
            Ok(number) => Ok(Max::AtMost(number)),
        },
    }
}

/// `ctl accounts --json`.
#[derive(Debug, Serialize)]
struct Accounts {
    accounts: Vec<Account>,
}

/// Lists or changes accounts.
pub async fn run(app: &App, args: Args) -> Result<Exit> {
    let changed = match &args.command {
        None => None,
        Some(Command::Set(set)) => Some(set.account.to_string()),
        Some(Command::Resume(resume)) => Some(resume.account.to_string()),
    };
    let client = app.connect().await?;
    let answer = match args.command {
        None => {
            let request = v1::ListAccountsRequest {};
            patiently(async || client.admin().list_accounts(request).await)
                .await?
                .accounts
        }
        Some(Command::Set(set)) => {
            let request = v1::SetAccountRequest {
                name: set.account.to_string(),
                max: match set.max {
                    Max::AsConfigured => None,
                    Max::AtMost(number) => Some(number),
                },
            };
            vec![
                changing::patiently(async || client.admin().set_account(request.clone()).await)
                    .await?,
            ]
        }
        Some(Command::Resume(resume)) => {
            let name = resume.account.to_string();
            let request = v1::ResumeAccountRequest { name };
            vec![
                changing::patiently(async || client.admin().resume_account(request.clone()).await)
                    .await?,
            ]
        }
    };
    let accounts = answer.into_iter().map(Account::read).collect();
    let shown = app.show(&Accounts { accounts }, |document| {
        if document.accounts.is_empty() {
            app.ui
                .next("no accounts: no worker has an AI coding CLI; `ctl workers -v` says why");
            return Ok(());
        }
        app.ui.table(&table(&document.accounts))
    });
    match changed {
        None => shown,
        Some(account) => or_untold(shown, || format!("{} is changed", line(&account))),
    }
}

fn table(accounts: &[Account]) -> Table {
    let mut table = Table::new(&["ACCOUNT", ">IN USE", "LIMIT", "STATE…", "RUNNERS", "WHY…"])
        .sparing(&["RUNNERS", "LIMIT", "IN USE", "WHY"])
        .wrapping();
    for account in accounts {
        let (state, style) = state(account.parked_until);
        table.row(vec![
            Cell::new(line(&account.name), Style::Bold),
            account.in_use.to_string().into(),
            account.limit().into(),
            Cell::new(state, style),
            line(&account.runners.join(", ")).into_owned().into(),
            line(account.why.as_deref().unwrap_or_default())
                .into_owned()
                .into(),
        ]);
    }
    table
}

fn state(parked_until: Option<Time>) -> (String, Style) {
    match parked_until {
        Some(until) => (format!("‖ parked {}", until_when(until)), Style::Attention),
        None => ("● open".to_owned(), Style::Good),
    }
}

/// `until 2026-09-21T14:05:00Z (in 12m)`.
pub fn until_when(until: Time) -> String {
    let left = duration(std::time::Duration::from_secs(
        until.0.since(now()).as_secs(),
    ));
    format!("until {until} (in {left})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_shows_its_limit_and_whether_it_is_parked() {
        let wire = |name: &str| v1::Account {
            name: name.into(),
            in_use: 2,
            runners: vec!["claude".into()],
            ..Default::default()
        };
        let slowed = v1::Account {
            max: Some(4),
            slowed_to: Some(1),
            why: "429".into(),
            ..wire("openai-1")
        };
        let accounts = [wire("anthropic-1"), slowed].map(Account::read);
        assert_eq!(
            table(&accounts).render(None, false),
            "ACCOUNT      IN USE  LIMIT       STATE   RUNNERS  WHY\n\
             anthropic-1       2  no limit    ● open  claude\n\
             openai-1          2  1 (slowed)  ● open  claude   429\n"
        );
        let (state, _) = state(Some(Time::from_ms(u64::MAX)));
        assert!(state.starts_with("‖ parked until"), "{state}");
    }

    #[test]
    fn a_limit_is_a_number_or_what_the_configuration_says() {
        assert_eq!(max("3"), Ok(Max::AtMost(3)));
        assert_eq!(max("config"), Ok(Max::AsConfigured));
        assert!(max("0").is_err() && max("many").is_err());
    }
}
