//! The URL that names a server and its database.
//!
//! Owns: the parameters that a URL may have, and the errors of a malformed one. Always holds: an error names the parameter and what
//! is allowed, and shows no value, because a mistyped URL can have a part of its password anywhere.

use std::error::Error as StdError;
use std::str::FromStr;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode, SslNegotiation};

use crate::error::{Error, Result};

const SECONDS: &str = "a whole number of seconds";
const SCHEMES: [&str; 2] = ["postgresql://", "postgres://"];

/// The parameters, each with its allowed values.
const PARAMETERS: [(&str, &str); 19] = [
    ("application_name", "text"),
    ("channel_binding", "disable, prefer or require"),
    ("connect_timeout", SECONDS),
    ("dbname", "the name of a database"),
    ("host", "host names, separated by commas; an IPv6 address stands in brackets"),
    ("hostaddr", "IP addresses, separated by commas"),
    ("keepalives", "0 or 1"),
    ("keepalives_idle", SECONDS),
    ("keepalives_interval", SECONDS),
    ("keepalives_retries", "a whole number"),
    ("load_balance_hosts", "disable or random"),
    ("options", "options of the server, such as -cwork_mem=64MB"),
    ("password", "text"),
    ("port", "1 to 65535"),
    ("sslmode", "disable, prefer or require"),
    ("sslnegotiation", "postgres or direct"),
    ("target_session_attrs", "any, read-write or read-only"),
    ("tcp_user_timeout", SECONDS),
    ("user", "the name of a role"),
];

/// Reads a URL.
///
/// # Errors
///
/// `InvalidArgument` if it is malformed, names no host, or has a bad parameter.
pub(super) fn parse(url: &str) -> Result<Config> {
    if let Some((scheme, _)) = url.split_once("://")
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric())
        && !SCHEMES.iter().any(|scheme| url.starts_with(scheme))
    {
        return Err(malformed(format!("has the scheme {scheme}; allowed is postgresql")));
    }
    let config = Config::from_str(url).map_err(|error| refused(url, &error))?;
    check_hosts(&config)?;
    check_encryption(&config)?;
    check_texts(&config)?;
    Ok(config)
}

/// The driver's error is not kept as the source: it may quote a part of the password.
fn malformed(reason: impl std::fmt::Display) -> Error {
    Error::invalid_argument(format!("the URL of the server {reason}")).with_parameter("url")
}

fn bad(name: &str) -> Error {
    let allowed = PARAMETERS.iter().find(|(of, _)| *of == name).map_or("text", |(_, allowed)| allowed);
    malformed(format!("has a bad value for {name}; allowed: {allowed}"))
}

/// Returns the error for a URL that the driver refuses.
fn refused(url: &str, error: &tokio_postgres::Error) -> Error {
    let reason = error.source().map(ToString::to_string).unwrap_or_default();
    let is_bad = |name: &str| reason == format!("invalid value for option `{name}`");
    if let Some((name, _)) = PARAMETERS.iter().find(|(name, _)| is_bad(name)) {
        return bad(name);
    }
    for pair in query_of(url).split('&').filter(|pair| !pair.is_empty()) {
        let Some((name, _)) = pair.split_once('=') else {
            return malformed(format!("has the parameter {pair} without a value; write {pair}=value"));
        };
        if !PARAMETERS.iter().any(|(of, _)| *of == name) {
            let names: Vec<&str> = PARAMETERS.iter().map(|(name, _)| *name).collect();
            return malformed(format!("has an unknown parameter {name}; allowed are {}", names.join(", ")));
        }
    }
    malformed(
        "cannot be read; it looks like postgresql://user:password@host:5432/database?sslmode=require, and special characters in its \
         parts are percent-encoded",
    )
}

/// Returns the parameters of a URL; nothing if what stands there may belong to a password that was not percent-encoded.
fn query_of(url: &str) -> &str {
    if !SCHEMES.iter().any(|scheme| url.starts_with(scheme)) {
        return "";
    }
    let after = url.split_once('@').map_or(url, |(_, after)| after);
    let query = after.split_once('?').map_or("", |(_, query)| query);
    if query.contains('@') { "" } else { query }
}

fn check_hosts(config: &Config) -> Result<()> {
    let (hosts, addresses, ports) = (config.get_hosts(), config.get_hostaddrs(), config.get_ports());
    let is_empty = |host: &Host| matches!(host, Host::Tcp(name) if name.is_empty());
    if hosts.is_empty() && addresses.is_empty() || hosts.iter().any(is_empty) {
        return Err(malformed("names no host; it looks like postgresql://user@host/database"));
    }
    if !hosts.is_empty() && !addresses.is_empty() && hosts.len() != addresses.len() {
        let text = format!(
            "has {} hosts and {} of hostaddr; both need the same number",
            hosts.len(),
            addresses.len()
        );
        return Err(malformed(text));
    }
    let count = hosts.len().max(addresses.len());
    if ports.len() > 1 && ports.len() != count {
        let text = format!(
            "has {} ports, but {count} hosts; write each host with its port, as host:5432",
            ports.len()
        );
        return Err(malformed(text));
    }
    if ports.contains(&0) { Err(bad("port")) } else { Ok(()) }
}

fn check_encryption(config: &Config) -> Result<()> {
    let mode = config.get_ssl_mode();
    if config.get_ssl_negotiation() == SslNegotiation::Direct && mode == SslMode::Prefer {
        return Err(malformed("has sslnegotiation=direct, which needs sslmode=require"));
    }
    if mode == SslMode::Require && config.get_hosts().is_empty() {
        return Err(malformed("has sslmode=require, which needs a host name to verify, beside hostaddr"));
    }
    Ok(())
}

/// The server's protocol ends texts with a zero byte.
fn check_texts(config: &Config) -> Result<()> {
    let texts = [
        ("user", config.get_user().map(str::as_bytes)),
        ("password", config.get_password()),
        ("dbname", config.get_dbname().map(str::as_bytes)),
        ("options", config.get_options().map(str::as_bytes)),
        ("application_name", config.get_application_name().map(str::as_bytes)),
    ];
    match texts.iter().find(|(_, text)| text.is_some_and(|text| text.contains(&0))) {
        Some((name, _)) => Err(malformed(format!("has a zero byte in {name}; allowed is text without one"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    /// Returns the message for a URL that is refused.
    fn message(url: &str) -> String {
        let error = parse(url).expect_err(url);
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{url}: {error}");
        assert!(error.source().is_none(), "the driver's error may quote the password");
        error.to_string()
    }

    #[test]
    fn a_well_formed_url_is_read() {
        for url in [
            "postgresql://host",
            "postgres://user:p%40ss@host:1/base?sslmode=require&connect_timeout=3",
            "postgresql://a:1,b:2/base?target_session_attrs=read-write&load_balance_hosts=random",
            "postgresql://user@%2Fvar%2Frun/base",
            "postgresql:///base?host=localhost&options=-csynchronous_commit%3Doff",
            "host=localhost user=datapool password='se cret'",
            "host=a,b port=1",
            "postgresql://?hostaddr=127.0.0.1",
            "postgresql://host?hostaddr=127.0.0.1&sslmode=require",
            "postgresql://a,b?hostaddr=127.0.0.1,127.0.0.2",
            "postgresql://a:1,b:2?hostaddr=127.0.0.1,127.0.0.2",
            "postgresql://host?sslnegotiation=direct&sslmode=require",
        ] {
            parse(url).unwrap_or_else(|error| panic!("{url}: {error}"));
        }
    }

    #[test]
    fn a_url_without_a_host_is_refused() {
        for url in [
            "",
            " ",
            "postgresql://",
            "postgresql:///base",
            "postgresql://user@/base",
            "postgresql://,b/base",
            "user=datapool",
        ] {
            assert!(message(url).contains("names no host"), "{}", message(url));
        }
    }

    #[test]
    fn a_text_that_is_no_url_is_refused() {
        for url in [
            "host",
            "mysql://user:secret@host/base?sslmode=require",
            "postgresql://[::1/base",
            "postgresql://host:port/base",
        ] {
            let message = message(url);
            assert!(
                message.starts_with("the URL of the server ") && !message.contains("secret"),
                "{message}"
            );
        }
    }

    #[test]
    fn a_bad_value_is_refused_with_the_name_of_its_parameter_and_what_is_allowed() {
        let with = |parameter: &str| {
            message(&format!("postgresql://user:secret@host/base?application_name=x&{parameter}"))
        };
        for (parameter, name, allowed) in [
            ("connect_timeout=abc", "connect_timeout", "seconds"),
            ("connect_timeout=1.5", "connect_timeout", "seconds"),
            ("sslmode=maybe", "sslmode", "disable, prefer or require"),
            ("sslmode=verify-full", "sslmode", "disable, prefer or require"),
            ("sslnegotiation=x", "sslnegotiation", "postgres or direct"),
            ("sslnegotiation=direct", "sslnegotiation", "sslmode=require"),
            ("hostaddr=x", "hostaddr", "IP addresses"),
            ("hostaddr=127.0.0.1,127.0.0.2", "hostaddr", "same number"),
            ("port=1", "2 ports, but 1 hosts", "host:5432"),
            ("port=65536", "port", "65535"),
            ("keepalives=yes", "keepalives", "0 or 1"),
            ("keepalives_idle=x", "keepalives_idle", "seconds"),
            ("keepalives_interval=x", "keepalives_interval", "seconds"),
            ("keepalives_retries=-1", "keepalives_retries", "whole number"),
            ("tcp_user_timeout=x", "tcp_user_timeout", "seconds"),
            ("target_session_attrs=primary", "target_session_attrs", "read-write"),
            ("channel_binding=x", "channel_binding", "disable, prefer or require"),
            ("load_balance_hosts=x", "load_balance_hosts", "disable or random"),
            ("options=%00", "options", "without"),
            ("sslmode", "sslmode", "sslmode=value"),
            ("&x=1&sslmode", "unknown parameter x", "sslmode, sslnegotiation"),
        ] {
            let message = with(parameter);
            assert!(message.contains(name) && message.contains(allowed), "{parameter}: {message}");
            assert!(!message.contains("secret"), "{message}");
        }
    }

    #[test]
    fn addresses_alone_are_enough_unless_a_name_must_be_verified() {
        for (url, part) in [
            ("postgresql://?hostaddr=127.0.0.1&sslmode=require", "a host name to verify"),
            ("postgresql://?hostaddr=127.0.0.1,127.0.0.2&port=1,2,3", "3 ports, but 2 hosts"),
            ("postgresql://a,b,c?hostaddr=127.0.0.1,127.0.0.2", "has 3 hosts and 2 of hostaddr"),
            ("postgresql://?host=a&hostaddr=127.0.0.1&port=0", "1 to 65535"),
        ] {
            let message = message(url);
            assert!(message.contains(part), "{url}: {message}");
        }
    }

    #[test]
    fn an_unknown_parameter_is_named_with_those_that_are_allowed() {
        let message = message("postgresql://user:secret@host/base?sslmode=require&sslrootcert=/x");
        assert!(message.contains("unknown parameter sslrootcert"), "{message}");
        assert!(PARAMETERS.iter().all(|(name, _)| message.contains(name)), "{message}");
    }

    #[test]
    fn every_parameter_of_the_list_is_one_of_the_driver() {
        for (name, _) in PARAMETERS {
            let value = ["x", "1", "127.0.0.1", "disable", "any", "postgres"];
            let is_known = value
                .iter()
                .any(|value| Config::from_str(&format!("postgresql://host?{name}={value}")).is_ok());
            assert!(is_known, "{name}");
        }
    }

    #[test]
    fn no_part_of_a_password_is_shown_even_if_it_is_not_percent_encoded() {
        for url in [
            "postgresql://user:pass@secret?secret=secret@host/base",
            "postgresql://user:secret",
            "postgresql://user:pass@secret:secret@host/base",
            "host=localhost password=my secret=word",
            "host=localhost password=my s e c r e t",
            "mysql://user:secret@host/base?sslmode=require",
            "postgres:/user:secret@host/base?x=y",
        ] {
            let message = message(url);
            assert!(!message.contains("secret"), "{message}");
        }
    }
}
