//! What a rule demands of what is asked: `http`, `grpc` and `tls` of a rule.

use std::collections::BTreeSet;
use std::sync::Arc;

use datapath::abi::Transport;

use super::findings::{Findings, Refused, every, exactly_one, length};
use crate::api::polder_policy::{Grpc, Header, Http, Path, Tls};
use crate::asks::{
    Asks, HeaderMatch, HttpMatch, NamePattern, PathPattern, ValuePattern, canonical_path, is_host, is_token,
};
use crate::list::{MOST_STATES, RegexProblem, regex_states};
use crate::policy::{Port, PortTerm, Ports};

/// The most items of any list here.
const ITEMS: usize = 16;
/// The most characters of a path, of a header's value and of an expression.
const TEXT: usize = 1024;
/// The most characters of a method, and of the name of a header.
const WORD: usize = 64;

/// The three fields of a rule, of which at most one is set.
#[derive(Clone, Copy, Default)]
pub(super) struct AsksFields<'a> {
    pub(super) http: Option<&'a [Http]>,
    pub(super) grpc: Option<&'a [Grpc]>,
    pub(super) tls: Option<&'a Tls>,
}

/// What a rule demands of what is asked, if it does.
pub(super) fn lower(
    fields: AsksFields<'_>,
    path: &str,
    findings: &mut Findings<'_>,
) -> Result<Option<Arc<Asks>>, Refused> {
    let known =
        [("http", fields.http.is_some()), ("grpc", fields.grpc.is_some()), ("tls", fields.tls.is_some())];
    let one = match known.iter().filter(|(_, set)| *set).count() {
        0 => return Ok(None),
        1 => Ok(()),
        _ => exactly_one(&known, path, findings),
    };
    let http = fields.http.map(|any| list(any, &format!("{path}.http"), http, findings));
    let grpc = fields.grpc.map(|any| list(any, &format!("{path}.grpc"), grpc, findings));
    let tls = fields.tls.map(|tls| names(&tls.server_names, &format!("{path}.tls.serverNames"), findings));
    one?;
    let asks = match (http.or(grpc), tls) {
        (Some(any), _) => Asks::Http(any?.into_iter().flatten().collect()),
        (None, Some(names)) => Asks::Tls(names?),
        (None, None) => return Ok(None),
    };
    Ok(Some(Arc::new(asks)))
}

/// The ports of a rule that asks: TCP's. Without ports it is about all of them.
pub(super) fn ports(ports: Ports, path: &str, findings: &mut Findings<'_>) -> Result<Ports, Refused> {
    let Ports::AnyOf(ports) = ports else {
        let term = PortTerm::Protocol(Transport::Tcp);
        return Ok(Ports::AnyOf(vec![Port { path: path.into(), term }]));
    };
    let tcp = |port: Port| {
        let term = match port.term {
            PortTerm::Named { transport: None | Some(Transport::Tcp), name } => {
                PortTerm::Named { transport: Some(Transport::Tcp), name }
            }
            PortTerm::Protocol(Transport::Tcp) | PortTerm::Range { transport: Transport::Tcp, .. } => {
                port.term
            }
            _ => {
                let message = "http, grpc and tls are read from TCP only, and this is another protocol";
                return Err(findings.error(&*port.path, message, "tcp, or a rule of its own without http"));
            }
        };
        Ok(Port { path: port.path, term })
    };
    every(ports.into_iter().map(tcp)).map(Ports::AnyOf)
}

fn list<F, T>(
    items: &[F],
    path: &str,
    lower: impl Fn(&F, &str, &mut Findings<'_>) -> Result<T, Refused>,
    findings: &mut Findings<'_>,
) -> Result<Vec<T>, Refused> {
    let count = length(items.len(), (1, ITEMS), path, findings);
    let items = every(
        items.iter().enumerate().map(|(index, item)| lower(item, &format!("{path}[{index}]"), findings)),
    );
    count?;
    items
}

fn http(fields: &Http, path: &str, findings: &mut Findings<'_>) -> Result<Vec<HttpMatch>, Refused> {
    let methods = fields.methods.as_ref().map(|of| list(of, &format!("{path}.methods"), method, findings));
    let hosts = fields.hosts.as_ref().map(|of| names(of, &format!("{path}.hosts"), findings));
    let asked = fields.path.as_ref().map(|of| path_pattern(of, &format!("{path}.path"), findings));
    let headers = fields.headers.as_ref().map(|of| {
        let path = format!("{path}.headers");
        let headers = list(of, &path, header, findings)?;
        let mut seen = BTreeSet::new();
        for (index, header) in headers.iter().enumerate() {
            if !seen.insert(&header.name) {
                let message = format!("the header {} stands here a second time", header.name);
                return Err(findings.error(format!("{path}[{index}].name"), message, "every header once"));
            }
        }
        Ok(headers)
    });
    Ok(vec![HttpMatch {
        at: path.into(),
        http2: false,
        methods: methods.transpose()?.unwrap_or_default(),
        hosts: hosts.transpose()?.unwrap_or_default(),
        path: asked.transpose()?,
        headers: headers.transpose()?.unwrap_or_default(),
    }])
}

/// A request of gRPC is POST of `/service/method` by HTTP/2 (gRPC over HTTP2, "Requests").
fn grpc(fields: &Grpc, path: &str, findings: &mut Findings<'_>) -> Result<Vec<HttpMatch>, Refused> {
    let is_name = |text: &str| {
        let part = |part: &str| {
            part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
                && part.starts_with(|first: char| !first.is_ascii_digit())
        };
        text.len() <= TEXT && text.split('.').all(part)
    };
    let service = if is_name(&fields.service) {
        Ok(&fields.service)
    } else {
        let message = format!("{:?} is not the name of a service", fields.service);
        Err(findings.error(format!("{path}.service"), message, "a full name such as shop.v1.Cart"))
    };
    let method = |method: &String, path: &str, findings: &mut Findings<'_>| {
        if is_name(method) && !method.contains('.') {
            return Ok(method.clone());
        }
        Err(findings.error(path, format!("{method:?} is not the name of a method"), "a name such as Add"))
    };
    let methods = fields.methods.as_ref().map(|of| list(of, &format!("{path}.methods"), method, findings));
    let (service, methods) = (service?, methods.transpose()?);
    let paths = match methods {
        None => vec![PathPattern::Regex(format!("/{}/[^/]+", service.replace('.', r"\.")).into())],
        Some(methods) => {
            methods.iter().map(|method| PathPattern::Exact(format!("/{service}/{method}").into())).collect()
        }
    };
    let matches = paths.into_iter().map(|asked| HttpMatch {
        at: path.into(),
        http2: true,
        methods: vec!["POST".into()],
        hosts: Vec::new(),
        path: Some(asked),
        headers: vec![HeaderMatch {
            name: "content-type".into(),
            value: ValuePattern::Regex(r"application/grpc([+;].*)?".into()),
        }],
    });
    Ok(matches.collect())
}

fn method(method: &String, path: &str, findings: &mut Findings<'_>) -> Result<Arc<str>, Refused> {
    if is_token(method) && method.len() <= WORD {
        return Ok(method.as_str().into());
    }
    let expected = format!("a method such as GET, at most {WORD} characters (RFC 9110 section 9.1)");
    Err(findings.error(path, format!("{method:?} is not a method"), expected))
}

fn names(names: &[String], path: &str, findings: &mut Findings<'_>) -> Result<Vec<NamePattern>, Refused> {
    list(names, path, name, findings)
}

fn name(text: &String, path: &str, findings: &mut Findings<'_>) -> Result<NamePattern, Refused> {
    let canonical = text.to_ascii_lowercase();
    let canonical = canonical.strip_suffix('.').unwrap_or(&canonical);
    let (under, rest) = match canonical.strip_prefix("*.") {
        Some(rest) => (true, rest),
        None => (false, canonical),
    };
    if !is_host(rest) || under && rest.starts_with('[') {
        let expected = "a DNS name or an address without a port, or *. and a name for all names under it";
        return Err(findings.error(path, format!("{text:?} is not the name of a host"), expected));
    }
    Ok(if under { NamePattern::Under(rest.into()) } else { NamePattern::Exact(rest.into()) })
}

fn path_pattern(fields: &Path, path: &str, findings: &mut Findings<'_>) -> Result<PathPattern, Refused> {
    let set = [
        ("exact", fields.exact.is_some()),
        ("prefix", fields.prefix.is_some()),
        ("regex", fields.regex.is_some()),
    ];
    let one = exactly_one(&set, path, findings);
    let exact = fields.exact.as_ref().map(|text| {
        // The target of OPTIONS about the server as a whole.
        let checked = if text == "*" { Ok(()) } else { plain(text, &format!("{path}.exact"), findings) };
        checked.map(|()| PathPattern::Exact(text.as_str().into()))
    });
    let prefix = fields.prefix.as_ref().map(|text| {
        plain(text, &format!("{path}.prefix"), findings)?;
        let bare = text.trim_end_matches('/');
        Ok(PathPattern::Prefix(if bare.is_empty() { "/" } else { bare }.into()))
    });
    let regex = fields
        .regex
        .as_ref()
        .map(|text| regex(text, &format!("{path}.regex"), findings).map(PathPattern::Regex));
    one?;
    exact
        .or(prefix)
        .or(regex)
        .unwrap_or_else(|| Err(findings.error(path, "no field is set", "exact, prefix or regex")))
}

/// A path as requests have it when policy is asked: any other would match nothing.
fn plain(text: &str, path: &str, findings: &mut Findings<'_>) -> Result<(), Refused> {
    if text.len() > TEXT {
        let message = format!("the path has {} bytes", text.len());
        return Err(findings.error(path, message, format!("at most {TEXT} bytes")));
    }
    canonical_path(text)
        .map_err(|problem| findings.error(path, format!("{text:?} is no canonical path: {problem}"), "/a/b"))
}

fn header(fields: &Header, path: &str, findings: &mut Findings<'_>) -> Result<HeaderMatch, Refused> {
    let name = header_name(&fields.name, &format!("{path}.name"), findings);
    let set = [
        ("present", fields.present.is_some()),
        ("equal", fields.equal.is_some()),
        ("regex", fields.regex.is_some()),
    ];
    let one = exactly_one(&set, path, findings);
    let present = fields.present.map(|present| {
        if present {
            return Ok(ValuePattern::Present);
        }
        Err(findings.error(format!("{path}.present"), "present is false", "true, equal or regex"))
    });
    let equal = fields.equal.as_ref().map(|text| {
        let is_value = text.bytes().all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte));
        if is_value && text.len() <= TEXT && text.trim_matches([' ', '\t']) == text {
            return Ok(ValuePattern::Equal(text.as_str().into()));
        }
        let expected = format!("at most {TEXT} printable ASCII characters, without blanks around them");
        Err(findings.error(format!("{path}.equal"), format!("{text:?} is not a header's value"), expected))
    });
    let regex = fields
        .regex
        .as_ref()
        .map(|text| regex(text, &format!("{path}.regex"), findings).map(ValuePattern::Regex));
    one?;
    let value = present
        .or(equal)
        .or(regex)
        .unwrap_or_else(|| Err(findings.error(path, "no field is set", "present, equal or regex")));
    Ok(HeaderMatch { name: name?, value: value? })
}

fn header_name(text: &str, path: &str, findings: &mut Findings<'_>) -> Result<Arc<str>, Refused> {
    let name = text.to_ascii_lowercase();
    let (message, expected) = if !is_token(&name) || name.len() > WORD {
        let expected = format!("a name such as x-user, at most {WORD} characters (RFC 9110 section 5.1)");
        (format!("{text:?} is not the name of a header"), expected)
    } else if name.contains('_') {
        // RFC 9110 allows it, but CGI and what follows it take `_` for `-`: such a rule could be met by another header.
        (format!("{text:?} has an underscore, which servers take for a dash"), name.replace('_', "-"))
    } else if name == "host" {
        ("the host stands in a field of its own".to_owned(), "hosts".to_owned())
    } else {
        return Ok(name.into());
    };
    Err(findings.error(path, message, expected))
}

fn regex(text: &str, path: &str, findings: &mut Findings<'_>) -> Result<Arc<str>, Refused> {
    let problem = if text.len() > TEXT {
        format!("the expression has {} bytes", text.len())
    } else {
        match regex_states(text) {
            Ok(_) => return Ok(text.into()),
            Err(problem @ RegexProblem::Syntax(_)) => format!("{text:?} is no regular expression: {problem}"),
            Err(problem @ RegexProblem::TooLarge) => format!("{text:?} is too large: {problem}"),
        }
    };
    let expected = format!(
        "an expression of at most {TEXT} bytes and {MOST_STATES} states, without look-around and back-references"
    );
    Err(findings.error(path, problem, expected))
}
