//! `ctl token revoke`.

use orchestra_proto::{token::JoinToken, v1};

use super::list::{Tokens, table, tokens};
use crate::{
    app::App,
    changing,
    error::{Error, Result},
    exit::Exit,
    json::token::Token,
    ui::now,
};

/// End tokens: nobody joins with them from now on
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Whoever has joined with such a token stays: `ctl workers revoke NAME` shuts a worker out.")]
pub struct Args {
    /// The tokens, by their ids as `ctl token list` shows them
    #[arg(value_name = "ID", required = true, value_parser = id)]
    ids: Vec<String>,
}

/// Ends them.
pub async fn run(app: &App, Args { mut ids }: Args) -> Result<Exit> {
    ids.sort();
    ids.dedup();
    let client = app.connect().await?;
    require(&tokens(&client).await?, &ids)?;
    // Before anything is revoked: what comes behind that must not fail for the sake of names.
    let names = client.worker_names().await?;
    let mut revoked = Vec::with_capacity(ids.len());
    for id in &ids {
        let request = v1::RevokeTokenRequest { id: id.clone() };
        let call = async || client.admin().revoke_token(request.clone()).await;
        revoked.push(Token::read(changing::patiently(call).await?)?);
    }
    let done = || format!("{} revoked", ids.join(", "));
    app.show_done(&Tokens { tokens: revoked }, done, |document| {
        app.ui.table(&table(&document.tokens, &names, now()))?;
        stays(&document.tokens)
            .into_iter()
            .for_each(|text| app.ui.next(text));
        Ok(())
    })
}

/// Whoever has only the token has its id too: it is never repeated.
fn id(text: &str) -> std::result::Result<String, String> {
    match text.parse::<JoinToken>() {
        Ok(token) => Ok(token.secret.id()),
        Err(_) => Ok(text.to_owned()),
    }
}

/// Refuses tokens that are not there, before any is revoked.
fn require(known: &[Token], ids: &[String]) -> Result<()> {
    let there = |id: &&String| known.iter().any(|token| token.id == **id);
    match ids.iter().find(|id| !there(id)) {
        None => Ok(()),
        Some(id) => {
            // A token that was cut short would still be a secret.
            let named = match id.starts_with("ORCH") {
                true => String::new(),
                false => format!(" `{id}`"),
            };
            let text = format!("there is no join token{named}; nothing was changed");
            Err(Error::new(Exit::NotFound, text)
                .hint("`ctl token list` shows all that are known, with their ids"))
        }
    }
}

/// Says that who has joined stays.
fn stays(tokens: &[Token]) -> Vec<String> {
    let joined = tokens.iter().filter_map(|token| token.used_by.as_ref());
    let said = |worker: &String| {
        format!(
            "worker {worker}, which has joined with it, stays; `ctl workers revoke {worker}` shuts it out"
        )
    };
    joined.map(said).collect()
}

#[cfg(test)]
mod tests {
    use orchestra_proto::token::Secret;
    use orchestra_types::Digest;

    use super::*;

    #[test]
    fn a_token_is_named_by_its_id_or_by_itself_and_never_repeated() {
        let token = JoinToken {
            head: "h:1".to_owned(),
            ca_fingerprint: Digest([1; 32]),
            secret: Secret([2; 32]),
        };
        let text = token.encode();
        assert_eq!(id(&text), Ok(token.secret.id()));
        assert_eq!(id("0a1b2c3d"), Ok("0a1b2c3d".to_owned()));
        let cut = id(&text[..40]).unwrap();
        let error = require(&[], &[cut]).unwrap_err();
        assert_eq!(error.exit(), Exit::NotFound);
        assert!(!error.chain().contains("ORCH"), "{}", error.chain());
        let error = require(&[], &["0a1b2c3d".to_owned()]).unwrap_err();
        assert!(error.chain().contains("`0a1b2c3d`"), "{}", error.chain());
    }
}
