//! URLs of servers, and their form without passwords.

use std::path::Path;

const SCHEMES: [&str; 2] = ["postgresql://", "postgres://"];

/// Returns the argument if it is the URL of a server rather than the name of a file.
pub(crate) fn of_server(argument: &Path) -> Option<&str> {
    argument.to_str().filter(|text| SCHEMES.iter().any(|scheme| text.starts_with(scheme)))
}

/// Returns true if the argument looks like the URL of a server, but has another scheme.
pub(crate) fn is_misspelled(argument: &Path) -> bool {
    let text = argument.to_string_lossy();
    let begins = text.get(..8).is_some_and(|begin| begin.eq_ignore_ascii_case("postgres"));
    of_server(argument).is_none() && (text.contains("://") || (begins && text.contains('@')))
}

/// Returns a URL without its password and its parameters, which may also have a password.
///
/// Also hides a password whose special characters are not encoded: everything up to the last `@` counts as password. If
/// a `?` comes before that, the end of the password is unclear, and nothing is shown.
pub(crate) fn without_secrets(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or_default();
    let (credentials, place) = match rest.rsplit_once('@') {
        None => (None, rest),
        Some((before, _)) if before.contains('?') => return format!("{scheme}://***"),
        Some((credentials, place)) => (Some(credentials), place),
    };
    let place = place.split('?').next().unwrap_or_default();
    match credentials.map(|credentials| credentials.split_once(':').ok_or(credentials)) {
        None => format!("{scheme}://{place}"),
        Some(Err(user)) => format!("{scheme}://{user}@{place}"),
        Some(Ok((user, _))) => format!("{scheme}://{user}:***@{place}"),
    }
}

/// Hides the passwords of the URLs among the program's arguments in a text that may quote them.
pub(crate) fn hide_in(text: String, arguments: impl Iterator<Item = String>) -> String {
    arguments.fold(text, |text, argument| {
        let begin = SCHEMES.iter().filter_map(|scheme| argument.find(scheme)).min();
        match begin.and_then(|begin| argument.get(begin..)) {
            Some(url) => text.replace(url, &without_secrets(url)),
            // A misspelled URL may have a password, too.
            None => match argument.rsplit_once('@') {
                Some((before, place)) if before.contains(':') => {
                    text.replace(&argument, &format!("***@{place}"))
                }
                _ => text,
            },
        }
    })
}

#[cfg(test)]
mod tests {
    //! Proves that no password is shown, in whatever form it is written.

    use super::*;

    #[test]
    fn a_url_is_shown_without_its_password() {
        for (url, shown) in [
            ("postgresql://host/db", "postgresql://host/db"),
            ("postgres://ann@host:5432/db", "postgres://ann@host:5432/db"),
            ("postgresql://ann:s3cret@host/db?sslmode=require", "postgresql://ann:***@host/db"),
            ("postgresql://ann:s3@cr/et@host/db", "postgresql://ann:***@host/db"),
            ("postgresql://ann:s3@cr/e?t@host/db", "postgresql://***"),
            ("postgresql://host/db?user=ann&password=s3cret", "postgresql://host/db"),
            ("postgresql://host/db?password=s3@cret", "postgresql://***"),
            ("postgresql://", "postgresql://"),
        ] {
            assert_eq!(without_secrets(url), shown, "{url}");
        }
    }

    #[test]
    fn passwords_are_hidden_where_a_text_quotes_an_argument() {
        let arguments = ["--store=postgres://ann:s3cret@host/db", "pools.redb"].map(str::to_owned);
        let text = "unexpected postgres://ann:s3cret@host/db".to_owned();
        assert_eq!(hide_in(text, arguments.into_iter()), "unexpected postgres://ann:***@host/db");
    }

    #[test]
    fn a_password_in_a_misspelled_url_is_hidden() {
        for url in ["postgres:/ann:s3cret@host/db", "mysql://ann:s3cret@host", "postgresql//ann:s3cret@host"]
        {
            assert!(is_misspelled(Path::new(url)), "{url}");
            let told = hide_in(format!("invalid value '{url}'"), [url.to_owned()].into_iter());
            assert!(!told.contains("s3cret") && told.contains("***@host"), "{told}");
        }
        for file in ["pools.redb", "postgres.redb", "a@b", "c:/x@y.redb", "postgresql://ann@host"] {
            assert!(!is_misspelled(Path::new(file)), "{file}");
        }
    }

    #[test]
    fn only_whole_schemes_name_a_server() {
        assert!(of_server(Path::new("postgres://host")).is_some());
        assert!(of_server(Path::new("postgresql://host")).is_some());
        for file in ["pools.redb", "postgres", "postgresql:/host", "./postgres://host"] {
            assert!(of_server(Path::new(file)).is_none(), "{file}");
        }
    }
}
