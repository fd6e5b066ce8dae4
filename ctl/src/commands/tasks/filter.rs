//! The options that choose tasks by what they are, wherever tasks are listed or counted.

use clap::builder::NonEmptyStringValueParser;
use orchestra_proto::v1;
use orchestra_types::RunnerName;

use crate::{
    commands::add::{mapping, pair},
    error::Result,
    values::runner,
};

/// Without any of them all are meant.
#[derive(Debug, clap::Args)]
pub struct Filter {
    /// Only tasks with this label; repeat it for more
    #[arg(long, short, value_name = "KEY=VALUE", value_parser = pair)]
    label: Vec<(String, String)>,
    /// Only of this runner
    #[arg(long, short = 'a', alias = "agent", value_name = "RUNNER", value_parser = runner(), hide_possible_values = true)]
    runner: Option<RunnerName>,
    /// Only tasks of this project, by name or id
    #[arg(long, value_name = "PROJECT", value_parser = NonEmptyStringValueParser::new())]
    project: Option<String>,
    /// Only tasks of this submitter: user@host, or the user on whatever machine
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    submitter: Option<String>,
}

impl Filter {
    /// What asks the head for these tasks. A label of two values is refused.
    pub fn request(self) -> Result<v1::ListTasksRequest> {
        let Self {
            label,
            runner,
            project,
            submitter,
        } = self;
        Ok(v1::ListTasksRequest {
            labels: mapping("--label", label)?,
            runner: runner.map(|name| name.to_string()).unwrap_or_default(),
            project: project.unwrap_or_default(),
            submitter: submitter.unwrap_or_default(),
            ..Default::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        filter: Filter,
    }

    fn request(options: &[&str]) -> Result<v1::ListTasksRequest> {
        let line = [&["x"], options].concat();
        Line::try_parse_from(line).unwrap().filter.request()
    }

    #[test]
    fn every_option_is_in_what_the_head_is_asked() {
        let none = request(&[]).unwrap();
        assert_eq!(none, v1::ListTasksRequest::default());
        let all = [
            "--label=area=auth",
            "--label=size=small",
            "--agent=claude",
            "--project=app",
            "--submitter=ana",
        ];
        let labels = [("area", "auth"), ("size", "small")];
        let expected = v1::ListTasksRequest {
            labels: labels
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            runner: "claude".to_owned(),
            project: "app".to_owned(),
            submitter: "ana".to_owned(),
            ..Default::default()
        };
        assert_eq!(request(&all).unwrap(), expected);
        request(&["--label=area=auth", "--label=area=ui"]).unwrap_err();
    }
}
