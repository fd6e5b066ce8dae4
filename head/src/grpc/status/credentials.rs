//! Why certificates, tokens, or the list of who may call could not be changed.

use std::{io, path::Path};

use tonic::Status;

use super::chain;
use orchestra_proto::client::CredentialsError;

use crate::security::{self, TokenError};

/// A token that could not be made.
pub(in crate::grpc) fn token(error: &TokenError) -> Status {
    match error {
        TokenError::TooMany => Status::resource_exhausted(chain(error)),
        TokenError::Failed(error) => credentials(error),
    }
}

/// There is no token of this id.
pub(in crate::grpc) fn no_token(id: &str) -> Status {
    // What somebody took for an id may be a token, which is a secret.
    let is_id = id.len() <= 16 && id.bytes().all(|b| b.is_ascii_alphanumeric());
    let named = match is_id {
        true => format!("join token `{id}`"),
        false => "such join token".to_owned(),
    };
    Status::not_found(format!(
        "there is no {named}; `ctl token list` shows all that are known"
    ))
}

/// Certificates or the list of who may call could not be changed.
pub(in crate::grpc) fn credentials(error: &security::Error) -> Status {
    match lacks_room(error) {
        Some(path) => Status::resource_exhausted(format!(
            "the head's disk is full: free some space where `{}` lies, and say it again",
            path.display()
        )),
        None => Status::internal(chain(error)),
    }
}

/// The file for which there was no room, if that is why.
fn lacks_room(error: &security::Error) -> Option<&Path> {
    use security::Error::{Credentials, File};
    let (File { path, source } | Credentials(CredentialsError::Write { path, source })) = error
    else {
        return None;
    };
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Some(path),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    fn failed(kind: io::ErrorKind) -> TokenError {
        let path = "/s/head/pki/tokens.json".into();
        let source = kind.into();
        TokenError::Failed(security::Error::File { path, source })
    }

    #[test]
    fn a_full_disk_is_told_with_what_to_do() {
        for kind in [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded] {
            let told = token(&failed(kind));
            assert_eq!(told.code(), Code::ResourceExhausted);
            let wanted = "the head's disk is full: free some space where \
                          `/s/head/pki/tokens.json` lies, and say it again";
            assert_eq!(told.message(), wanted);
        }
        let other = token(&failed(io::ErrorKind::PermissionDenied));
        assert_eq!(other.code(), Code::Internal);
        assert!(other.message().starts_with("failed to read or write `/s/"));
    }

    #[test]
    fn a_token_that_was_taken_for_its_id_is_not_repeated() {
        let told = no_token("ORCH1.abcdefgh");
        assert!(!told.message().contains("ORCH1"), "{}", told.message());
        assert!(no_token("0a1b2c3d").message().contains("`0a1b2c3d`"));
    }
}
