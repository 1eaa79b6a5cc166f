//! Options: every one is a flag, an environment variable and a key of an optional TOML file, in this order of
//! precedence, with one definition for all three (a `clap` argument).
//!
//! The file is read first and becomes the defaults of the flags, so a value from the file is parsed, checked and
//! reported exactly as one from the command line.

use std::{ffi::OsString, fs, path::Path};

use clap::{ArgMatches, Command, CommandFactory, FromArgMatches, error::ErrorKind};

/// The id of the option that names the file. It is the one option that cannot stand in the file.
const CONFIG: &str = "config";

/// Where the options file is; flatten it into a program's options.
#[derive(Debug, Clone, clap::Args)]
pub struct ConfigFile {
    /// TOML file with any of these options
    #[arg(long, env = "IM_CONFIG", value_name = "FILE")]
    config: Option<std::path::PathBuf>,
}

/// Reads a program's options from the process's arguments, its environment and the file that `--config` names.
///
/// Ends the process with a sentence that names the option, the value and what is allowed when one is wrong, and
/// after `--help` and `--version`.
pub fn parse<T: CommandFactory + FromArgMatches>() -> T {
    try_parse(std::env::args_os().collect()).unwrap_or_else(|e| e.exit())
}

fn try_parse<T: CommandFactory + FromArgMatches>(args: Vec<OsString>) -> Result<T, clap::Error> {
    let mut command = with_file_keys_in_help(T::command());
    if let Some(path) = config_path(command.clone(), &args) {
        command = with_defaults_from(command, Path::new(&path))?;
    }
    let matches = command.try_get_matches_from_mut(args)?;
    T::from_arg_matches(&matches).map_err(|e| e.format(&mut command))
}

/// Says each option's key in the file beside the flag and the variable that clap prints itself.
fn with_file_keys_in_help(command: Command) -> Command {
    let command = command.mut_args(|arg| {
        let id = arg.get_id().to_string();
        if arg.get_env().is_none() || id == CONFIG {
            return arg;
        }
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        arg.help(format!("{help}\n[file: {id}]"))
    });
    command.mut_subcommands(with_file_keys_in_help)
}

/// Finds `--config` ahead of the real parse, whatever else is wrong with the arguments.
fn config_path(command: Command, args: &[OsString]) -> Option<OsString> {
    fn find(matches: &ArgMatches) -> Option<OsString> {
        let here = matches.try_get_raw(CONFIG).ok().flatten();
        here.and_then(|mut v| v.next().map(OsString::from)).or_else(|| matches.subcommand().and_then(|(_, m)| find(m)))
    }
    let matches = command.ignore_errors(true).try_get_matches_from(args).ok()?;
    find(&matches)
}

fn with_defaults_from(mut command: Command, path: &Path) -> Result<Command, clap::Error> {
    let shown = path.display();
    let text = fs::read_to_string(path)
        .map_err(|e| invalid(&mut command, format!("--config {shown}: cannot be read: {e}")))?;
    let table: toml::Table =
        text.parse().map_err(|e| invalid(&mut command, format!("--config {shown}: is not TOML: {e}")))?;
    for (key, value) in table {
        let id = key.replace('-', "_");
        if id == CONFIG || !knows(&command, &id) {
            return Err(invalid(&mut command, format!("--config {shown}: there is no option `{key}`; see --help")));
        }
        let value = match value {
            toml::Value::String(s) => s,
            toml::Value::Integer(_) | toml::Value::Float(_) | toml::Value::Boolean(_) => value.to_string(),
            _ => {
                let what = format!("--config {shown}: `{key}` takes a string, a number or a boolean");
                return Err(invalid(&mut command, what));
            }
        };
        command = with_default(command, &id, &value);
    }
    Ok(command)
}

fn knows(command: &Command, id: &str) -> bool {
    command.get_arguments().any(|a| a.get_id() == id) || command.get_subcommands().any(|c| knows(c, id))
}

fn with_default(command: Command, id: &str, value: &str) -> Command {
    let command = if command.get_arguments().any(|a| a.get_id() == id) {
        command.mut_arg(id, |arg| arg.default_value(value.to_owned()))
    } else {
        command
    };
    command.mut_subcommands(|c| with_default(c, id, value))
}

fn invalid(command: &mut Command, what: String) -> clap::Error {
    command.error(ErrorKind::ValueValidation, what)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Options {
        #[command(flatten)]
        _file: ConfigFile,
        /// How many
        #[arg(long, env = "OPTIONS_TEST_COUNT", default_value_t = 3)]
        item_count: u32,
    }

    fn parse_with(file: &str, args: &[&str]) -> Result<u32, String> {
        let mut f = tempfile::NamedTempFile::new().expect("a temporary file");
        f.write_all(file.as_bytes()).expect("written");
        let mut all = vec!["program".into(), "--config".into(), f.path().into()];
        all.extend(args.iter().map(OsString::from));
        try_parse::<Options>(all).map(|o| o.item_count).map_err(|e| e.to_string())
    }

    #[test]
    fn the_default_counts_when_nothing_is_said() {
        assert_eq!(parse_with("", &[]), Ok(3));
    }

    #[test]
    fn the_file_beats_the_default_and_the_flag_beats_the_file() {
        assert_eq!(parse_with("item_count = 5", &[]), Ok(5));
        assert_eq!(parse_with("item-count = 5", &["--item-count", "6"]), Ok(6));
    }

    #[test]
    fn an_unknown_key_is_named() {
        let e = parse_with("item_cuont = 5", &[]).expect_err("refused");
        assert!(e.contains("there is no option `item_cuont`"), "{e}");
    }

    #[test]
    fn a_wrong_value_in_the_file_is_reported_like_a_flag() {
        let e = parse_with("item_count = 'many'", &[]).expect_err("refused");
        assert!(e.contains("many") && e.contains("--item-count"), "{e}");
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let args = ["program", "--config", "/nowhere/at/all.toml"].map(OsString::from).to_vec();
        let e = try_parse::<Options>(args).expect_err("refused").to_string();
        assert!(e.contains("/nowhere/at/all.toml"), "{e}");
    }

    #[test]
    fn help_names_the_flag_the_variable_the_key_and_the_default() {
        let help = with_file_keys_in_help(Options::command()).render_long_help().to_string();
        for name in ["--item-count", "OPTIONS_TEST_COUNT", "[file: item_count]", "[default: 3]"] {
            assert!(help.contains(name), "{name} is not in {help}");
        }
    }
}
