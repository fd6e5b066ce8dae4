//! What a path asks for.

use crate::conversation::Api;

/// What a path asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The trouble that the prefix `/s/NAME` names.
    pub scenario: Option<String>,
    /// The rest of the path.
    pub target: Target,
}

/// What a path asks for, without its prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// An answer of the model.
    Generate {
        /// The wire format.
        api: Api,
        /// The model, where the path names it.
        model: Option<String>,
        /// Whether the path asks for a stream.
        stream: bool,
    },
    /// A count of tokens.
    Count(Api, Option<String>),
    /// The list of models.
    Models,
    /// Nothing that is known.
    Unknown,
}

/// Reads a path.
#[must_use]
pub fn route(path: &str) -> Route {
    let (scenario, rest) = match path
        .strip_prefix("/s/")
        .and_then(|rest| rest.split_once('/'))
    {
        Some((name, rest)) => (Some(name.to_owned()), rest),
        None => (None, path.trim_start_matches('/')),
    };
    Route {
        scenario,
        target: target(rest),
    }
}

fn target(path: &str) -> Target {
    let version = ["v1/", "v1beta/", "v1alpha/"]
        .iter()
        .find_map(|start| path.strip_prefix(start));
    let path = version.unwrap_or(path);
    let generate = |api| Target::Generate {
        api,
        model: None,
        stream: false,
    };
    match path {
        "messages" => generate(Api::Anthropic),
        "messages/count_tokens" => Target::Count(Api::Anthropic, None),
        "responses" => generate(Api::Responses),
        "chat/completions" => generate(Api::Chat),
        "models" => Target::Models,
        _ => path.strip_prefix("models/").map_or(Target::Unknown, gemini),
    }
}

fn gemini(path: &str) -> Target {
    let Some((model, verb)) = path.rsplit_once(':') else {
        return Target::Models;
    };
    let model = Some(model.to_owned());
    match verb {
        "generateContent" => Target::Generate {
            api: Api::Gemini,
            model,
            stream: false,
        },
        "streamGenerateContent" => Target::Generate {
            api: Api::Gemini,
            model,
            stream: true,
        },
        "countTokens" => Target::Count(Api::Gemini, model),
        _ => Target::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_the_format_the_model_and_the_trouble() {
        let cut = route("/s/2xcut/v1/messages");
        assert_eq!(cut.scenario.as_deref(), Some("2xcut"));
        let anthropic = Target::Generate {
            api: Api::Anthropic,
            model: None,
            stream: false,
        };
        assert_eq!(cut.target, anthropic);
        assert_eq!(
            route("/v1beta/models/gemini-x:streamGenerateContent").target,
            Target::Generate {
                api: Api::Gemini,
                model: Some("gemini-x".into()),
                stream: true
            }
        );
        assert_eq!(route("/v1/models").target, Target::Models);
        assert_eq!(route("/favicon.ico").target, Target::Unknown);
    }
}
