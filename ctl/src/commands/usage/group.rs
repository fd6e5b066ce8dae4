//! By what usage is summed up.

use std::{collections::BTreeMap, fmt, str::FromStr};

use orchestra_proto::v1;
use orchestra_types::Timestamp;

use crate::{ui::suggest::did_you_mean, values::Named};

/// What the attempts of one row have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum By {
    Project,
    Submitter,
    Runner,
    Model,
    Worker,
    Day,
    /// The value of the label with this key.
    Label(String),
}

/// What workers are called, by their ids.
pub type Names = BTreeMap<String, String>;

/// What a row is of: a name, and an id where names may be those of several.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    pub name: Option<String>,
    pub id: Option<String>,
}

const WORDS: [(&str, By); 6] = [
    ("project", By::Project),
    ("submitter", By::Submitter),
    ("runner", By::Runner),
    ("model", By::Model),
    ("worker", By::Worker),
    ("day", By::Day),
];
const LABEL: &str = "label:";

impl By {
    /// Reads one, and knows all of its words.
    pub fn named() -> Named<Self> {
        Named::new(WORDS.map(|(word, _)| word).into_iter().chain([LABEL]))
    }

    /// The title of its column.
    pub fn title(&self) -> &'static str {
        match self {
            Self::Project => "PROJECT",
            Self::Submitter => "SUBMITTER",
            Self::Runner => "RUNNER",
            Self::Model => "MODEL",
            Self::Worker => "WORKER",
            Self::Day => "DAY",
            Self::Label(_) => "LABEL",
        }
    }

    /// What an attempt of a task belongs to that ended then.
    pub fn key(
        &self,
        task: &v1::TaskSpec,
        attempt: &v1::Attempt,
        ended: Timestamp,
        workers: &Names,
    ) -> Key {
        let named = |name: &str| Key {
            name: (!name.is_empty()).then(|| name.to_owned()),
            id: None,
        };
        match self {
            Self::Project => task
                .project
                .as_ref()
                .map_or_else(Key::default, |project| Key {
                    id: Some(project.id.clone()),
                    ..named(&project.name)
                }),
            Self::Submitter => named(&task.submitter),
            Self::Runner => named(&attempt.runner),
            Self::Model => named(attempt.outcome.as_ref().map_or("", |end| &end.model)),
            Self::Worker => Key {
                id: Some(attempt.worker.clone()),
                ..named(workers.get(&attempt.worker).unwrap_or(&attempt.worker))
            },
            Self::Day => named(&day(ended)),
            Self::Label(key) => named(task.labels.get(key).map_or("", String::as_str)),
        }
    }
}

/// The day in UTC, as budgets count days.
fn day(moment: Timestamp) -> String {
    let ms = i64::try_from(moment.0).unwrap_or(i64::MAX);
    let moment = jiff::Timestamp::from_millisecond(ms).unwrap_or(jiff::Timestamp::MAX);
    moment.strftime("%Y-%m-%d").to_string()
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Label(key) => write!(f, "{LABEL}{key}"),
            Self::Project
            | Self::Submitter
            | Self::Runner
            | Self::Model
            | Self::Worker
            | Self::Day => f.write_str(&self.title().to_lowercase()),
        }
    }
}

impl FromStr for By {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(key) = text.strip_prefix(LABEL).filter(|key| !key.is_empty()) {
            return Ok(Self::Label(key.to_owned()));
        }
        let known = WORDS.into_iter().find(|(word, _)| *word == text);
        known.map(|(_, by)| by).ok_or_else(|| {
            let words = WORDS.map(|(word, _)| word);
            let guess = did_you_mean(text, words);
            format!(
                "nothing to sum up by{guess} (known: {}, label:KEY)",
                words.join(", ")
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_belongs_to_what_it_is_summed_up_by() {
        let mut spec = v1::TaskSpec {
            submitter: "jo@there".to_owned(),
            project: Some(v1::ProjectRef {
                id: "git-1".to_owned(),
                name: "app".to_owned(),
                ..Default::default()
            }),
            ..Default::default()
        };
        spec.labels.insert("team".to_owned(), "a".to_owned());
        let attempt = v1::Attempt {
            runner: "claude".to_owned(),
            worker: "w-1".to_owned(),
            outcome: Some(v1::Outcome::default()),
            ..Default::default()
        };
        let workers = Names::from([("w-1".to_owned(), "near".to_owned())]);
        // 2026-11-30T23:59:59.999Z.
        let ended = Timestamp(1_796_083_199_999);
        let key = |by: &str| {
            by.parse::<By>()
                .unwrap()
                .key(&spec, &attempt, ended, &workers)
        };
        let said = |by: &str| {
            let key = key(by);
            let texts = [key.name, key.id].map(|text| text.unwrap_or_else(|| "-".to_owned()));
            texts.join(" ")
        };
        assert_eq!(said("project"), "app git-1");
        assert_eq!(said("submitter"), "jo@there -");
        assert_eq!(said("runner"), "claude -");
        assert_eq!(said("model"), "- -");
        assert_eq!(said("worker"), "near w-1");
        assert_eq!(said("day"), "2026-11-30 -");
        assert_eq!(said("label:team"), "a -");
        assert_eq!(said("label:other"), "- -");
    }

    #[test]
    fn what_is_summed_up_by_is_read_as_it_is_written() {
        for text in [
            "project",
            "submitter",
            "runner",
            "model",
            "worker",
            "day",
            "label:team",
        ] {
            assert_eq!(text.parse::<By>().unwrap().to_string(), text);
        }
        let wrong = |text: &str| text.parse::<By>().unwrap_err();
        assert!(
            wrong("projet").contains("did you mean `project`"),
            "{}",
            wrong("projet")
        );
        assert!(wrong("label:").contains("label:KEY"));
    }
}
