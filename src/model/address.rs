//! Addresses of services as people have them: of a Google client's variable, of
//! `gcloud … env-init`, of a compose file.
//!
//! Knows the words only: nothing is looked up.

use std::net::{IpAddr, Ipv6Addr};

/// The scheme of a service that is given without one.
const HTTP: &str = "http://";

/// The one form of an emulator's address, `HOST:PORT`; none where `text` is no such address.
///
/// The scheme `http://`, a slash at the end and blanks around it are left out. An IPv6 address may
/// come without brackets, as `gcloud … env-init` prints it: what follows the last colon is the
/// port.
pub fn host_and_port(text: &str) -> Option<String> {
    let text = text.trim();
    let text = strip_scheme(text, HTTP)
        .unwrap_or(text)
        .trim_end_matches('/');
    let (host, port) = text.rsplit_once(':')?;
    let is_port =
        port.bytes().all(|c| c.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port != 0);
    is_port.then_some(())?;
    Some(format!("{}:{port}", bracketed(host)?))
}

/// What is wrong with a text that is no `HOST:PORT`, and what to write.
pub fn host_and_port_fault(text: &str) -> String {
    let shown = without_user(text);
    let plain = strip_scheme(text.trim(), HTTP).unwrap_or(text.trim());
    let plain = plain.trim_end_matches('/');
    let is_number = |port: &str| !port.is_empty() && port.bytes().all(|c| c.is_ascii_digit());
    match plain.rsplit_once(':') {
        None if bracketed(plain).is_some() => {
            format!("{shown:?} has no port: write {plain}:8081")
        }
        Some((host, port)) if bracketed(host).is_some() && is_number(port) => {
            format!("{port} is not a port: write a number from 1 to 65535")
        }
        _ => format!("{shown:?} is not HOST:PORT"),
    }
}

/// The base of a service's addresses, `SCHEME://HOST[:PORT][/PATH]` without a slash at the end;
/// none where `text` is no such address. Without a scheme it is plain HTTP.
pub fn base(text: &str) -> Option<String> {
    let text = text.trim();
    let (scheme, rest) = [HTTP, "https://"]
        .into_iter()
        .find_map(|scheme| Some((scheme, strip_scheme(text, scheme)?)))
        .or_else(|| (!text.contains("://")).then_some((HTTP, text)))?;
    let rest = rest.trim_end_matches('/');
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let (user, place) = authority.split_at(authority.rfind('@').map_or(0, |at| at + 1));
    let with_port = || {
        let (host, port) = place.rsplit_once(':')?;
        port.parse::<u16>().ok()?;
        Some(format!("{}:{port}", bracketed(host)?))
    };
    let place = with_port().or_else(|| bracketed(place))?;
    (!path.contains(['?', '#'])).then(|| format!("{scheme}{user}{place}{path}"))
}

/// An address as it may be shown: who logs in there, and with which password, is left out.
pub fn without_user(address: &str) -> String {
    let start = address.find("://").map_or(0, |at| at + 3);
    let (scheme, rest) = address.split_at(start);
    match rest.rsplit_once('@') {
        Some((_, place)) => format!("{scheme}…@{place}"),
        None => address.to_owned(),
    }
}

/// Whether a host, an IPv6 address with or without brackets, is this machine by its very name.
/// Whoever connects to no address in particular, such as `0.0.0.0`, stays here.
pub fn is_this_machine(host: &str) -> bool {
    let name = host.trim_start_matches('[').trim_end_matches(']');
    let ip = name.parse::<IpAddr>();
    name.eq_ignore_ascii_case("localhost")
        || ip.is_ok_and(|ip| ip.to_canonical().is_loopback() || ip.is_unspecified())
}

fn strip_scheme<'a>(text: &'a str, scheme: &str) -> Option<&'a str> {
    let (found, rest) = text.split_at_checked(scheme.len())?;
    found.eq_ignore_ascii_case(scheme).then_some(rest)
}

/// A host as it stands before a port: an IPv6 address in brackets, a name as it is.
fn bracketed(host: &str) -> Option<String> {
    let inner = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    if inner.is_some() || host.contains(':') {
        return Some(format!(
            "[{}]",
            inner.unwrap_or(host).parse::<Ipv6Addr>().ok()?
        ));
    }
    let is_name = !host.is_empty()
        && host
            .bytes()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'.' | b'_'));
    is_name.then(|| host.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_emulators_address_is_read_in_every_form() {
        for (text, expected) in [
            ("localhost:8081", "localhost:8081"),
            (" localhost:8081\n", "localhost:8081"),
            ("http://localhost:8081", "localhost:8081"),
            ("HTTP://localhost:8081/", "localhost:8081"),
            ("http://my_emulator:8081//", "my_emulator:8081"),
            ("127.0.0.1:8081/", "127.0.0.1:8081"),
            ("0.0.0.0:8081", "0.0.0.0:8081"),
            ("::1:8081", "[::1]:8081"),
            ("http://::1:8081", "[::1]:8081"),
            (":::8081", "[::]:8081"),
            ("[::1]:8081", "[::1]:8081"),
            ("http://[::1]:8081/", "[::1]:8081"),
            ("2001:db8::7:8081", "[2001:db8::7]:8081"),
            ("::ffff:127.0.0.1:8081", "[::ffff:127.0.0.1]:8081"),
        ] {
            assert_eq!(host_and_port(text).as_deref(), Some(expected), "{text:?}");
            assert_eq!(
                host_and_port(expected).as_deref(),
                Some(expected),
                "{expected:?}"
            );
        }
    }

    #[test]
    fn half_an_address_and_other_services_are_refused() {
        for text in [
            "",
            " ",
            "localhost",
            "::1",
            "[::1]",
            ":8081",
            "localhost:",
            "localhost:0",
            "localhost:+80",
            "localhost:65536",
            "http://localhost",
            "https://localhost:8081",
            "ftp://localhost:8081",
            "localhost:8081/datastore",
            "local host:8081",
            "a:1@b:2",
            "user:secret@localhost:8081",
            "1:2:3:4:5:6:7:8",
            "fe80::1%eth0:8081",
            "[localhost]:8081",
            "localhost:8081?x",
        ] {
            assert_eq!(host_and_port(text), None, "{text:?}");
        }
    }

    #[test]
    fn service_address_is_read_in_every_form() {
        for (text, expected) in [
            ("localhost:9023", "http://localhost:9023"),
            (" http://localhost:9023/ ", "http://localhost:9023"),
            ("https://gcs.example.com", "https://gcs.example.com"),
            ("HTTPS://gcs:4443/", "https://gcs:4443"),
            (
                "http://localhost:9023/storage/v1/",
                "http://localhost:9023/storage/v1",
            ),
            ("::1:9023", "http://[::1]:9023"),
            ("http://::1:9023", "http://[::1]:9023"),
            ("[::1]:9023", "http://[::1]:9023"),
            ("0.0.0.0:9023", "http://0.0.0.0:9023"),
            ("localhost", "http://localhost"),
            ("::1", "http://[::1]"),
            (
                "https://user:secret@gcs:4443",
                "https://user:secret@gcs:4443",
            ),
        ] {
            assert_eq!(base(text).as_deref(), Some(expected), "{text:?}");
        }
        for text in [
            "",
            "  ",
            "http://",
            "ftp://host",
            "http://ho st",
            "http://host:port",
            "host:70000",
            "host?x=1",
            "http://[::1",
        ] {
            assert_eq!(base(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_password_is_not_shown() {
        assert_eq!(
            without_user("https://user:se@cret@host:1/x"),
            "https://…@host:1/x"
        );
        assert_eq!(without_user("user:secret@host:1"), "…@host:1");
        assert_eq!(without_user("http://host:1/x"), "http://host:1/x");
    }

    #[test]
    fn loopback_hosts_are_this_machine_and_no_others() {
        for here in [
            "localhost",
            "LOCALHOST",
            "127.0.0.1",
            "127.8.0.1",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "0.0.0.0",
            "[::]",
        ] {
            assert!(is_this_machine(here), "{here}");
        }
        for elsewhere in [
            "emulator",
            "10.0.0.1",
            "[2001:db8::1]",
            "localhost.example.com",
            "127.0.0.1.nip.io",
        ] {
            assert!(!is_this_machine(elsewhere), "{elsewhere}");
        }
    }
}
