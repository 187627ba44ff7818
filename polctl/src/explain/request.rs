//! What is asked over a connection: `--http`, `--host`, `--header`, `--grpc`, `--tls`; the same words in test files.

use policy_compiler::asks::{canonical_path, is_host, is_token};
use policy_compiler::explain::{HttpRequest, Request};

/// The request, in the words of a user.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
pub(crate) struct Words {
    /// An HTTP request over the connection: 'GET /path'
    #[arg(long, value_name = "REQUEST", requires = "port", conflicts_with_all = ["grpc", "tls"])]
    pub(crate) http: Option<String>,
    /// The host of the request
    #[arg(long, value_name = "NAME", requires = "port", conflicts_with = "tls")]
    pub(crate) host: Option<String>,
    /// A header of the request: 'name: value'; may be repeated
    #[arg(long, value_name = "HEADER", requires = "port", conflicts_with = "tls")]
    pub(crate) header: Vec<String>,
    /// A call of gRPC: service/method
    #[arg(long, value_name = "METHOD", requires = "port", conflicts_with = "tls")]
    pub(crate) grpc: Option<String>,
    /// The name that a TLS client asks for
    #[arg(long, value_name = "NAME", requires = "port")]
    pub(crate) tls: Option<String>,
}

impl Words {
    /// The request, if one was named.
    pub(crate) fn request(&self) -> Result<Option<Request>, String> {
        let mut request = match (&self.http, &self.grpc, &self.tls) {
            (None, None, None) if self.host.is_none() && self.header.is_empty() => return Ok(None),
            (None, None, None) => return Err("a host or a header stands without --http or --grpc".to_owned()),
            (Some(text), None, None) => http(text)?,
            (None, Some(text), None) => grpc(text)?,
            (None, None, Some(name)) => return Ok(Some(Request::Tls(host(name)?))),
            _ => return Err("more than one of http, grpc and tls is named; expected one".to_owned()),
        };
        if let Some(name) = &self.host {
            request.host = Some(host(name)?);
        }
        for text in &self.header {
            request.headers.push(header(text)?);
        }
        Ok(Some(Request::Http(request)))
    }
}

/// `GET /path` or `GET http://host/path`. The query is left out, as policy is never asked about it.
fn http(text: &str) -> Result<HttpRequest, String> {
    let expected = "expected a method and a path, such as 'GET /path'";
    let (method, target) = text.trim().split_once(' ').ok_or(expected)?;
    let target = target.trim();
    let bare = target.strip_prefix("http://").or_else(|| target.strip_prefix("https://"));
    let (authority, path) = match bare {
        Some(rest) => {
            let cut = rest.find('/').unwrap_or(rest.len());
            let (authority, path) = rest.split_at(cut);
            (Some(host(authority)?), if path.is_empty() { "/" } else { path })
        }
        None => (None, target),
    };
    let path = path.split('?').next().unwrap_or_default();
    if !is_token(method) {
        return Err(expected.to_owned());
    }
    if path != "*" {
        let problem =
            |problem| format!("a request for {path:?} is refused before policy is asked: {problem}");
        canonical_path(path).map_err(problem)?;
    }
    let (method, path) = (method.to_owned(), path.to_owned());
    Ok(HttpRequest { method, path, host: authority, headers: Vec::new(), http2: false })
}

/// `shop.v1.Cart/Add`
fn grpc(text: &str) -> Result<HttpRequest, String> {
    let (service, method) = text
        .trim_start_matches('/')
        .split_once('/')
        .ok_or("expected service/method, such as shop.v1.Cart/Add")?;
    let path = format!("/{service}/{method}");
    canonical_path(&path)?;
    let headers = vec![("content-type".to_owned(), "application/grpc".to_owned())];
    Ok(HttpRequest { method: "POST".to_owned(), path, host: None, headers, http2: true })
}

/// A host as policy is asked about it: without a port, in lower case.
fn host(text: &str) -> Result<String, String> {
    let name = match text.rsplit_once(':') {
        Some((name, port)) if port.parse::<u16>().is_ok() => name,
        _ => text,
    };
    let name = name.to_ascii_lowercase();
    let name = name.strip_suffix('.').unwrap_or(&name);
    if is_host(name) { Ok(name.to_owned()) } else { Err(format!("{text:?} is not the name of a host")) }
}

/// `name: value`
fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("expected a header such as 'x-user: admin'")?;
    let name = name.trim().to_ascii_lowercase();
    if !is_token(&name) {
        return Err(format!("{name:?} is not the name of a header"));
    }
    if name == "host" {
        return Err("the host is no header here; expected --host".to_owned());
    }
    Ok((name, value.trim_matches([' ', '\t']).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(http: &str) -> Words {
        Words { http: Some(http.to_owned()), ..Words::default() }
    }

    #[test]
    fn a_request_is_brought_into_the_form_that_policy_is_asked_about() {
        let mut asked = args("GET http://Shop.Example.:80/cart?x=1");
        asked.header = vec!["X-User:  admin ".to_owned()];
        let expected = HttpRequest {
            method: "GET".to_owned(),
            path: "/cart".to_owned(),
            host: Some("shop.example".to_owned()),
            headers: vec![("x-user".to_owned(), "admin".to_owned())],
            http2: false,
        };
        assert_eq!(asked.request(), Ok(Some(Request::Http(expected))));
        let grpc = Words { grpc: Some("a.B/C".to_owned()), ..Words::default() };
        let found = grpc.request().unwrap().unwrap();
        let found = found.http().unwrap();
        assert_eq!((&*found.method, &*found.path, found.http2), ("POST", "/a.B/C", true));
        let tls = Words { tls: Some("A.b".to_owned()), ..Words::default() };
        assert_eq!(tls.request(), Ok(Some(Request::Tls("a.b".to_owned()))));
        assert_eq!(Words::default().request(), Ok(None));
    }

    #[test]
    fn what_no_request_can_be_is_refused() {
        for wrong in ["GET", "GET x", "G(T /", "GET /a//b", "GET /a/../b", "GET /%2f", "GET http://a b/"] {
            assert!(args(wrong).request().is_err(), "{wrong}");
        }
        assert!(Words { host: Some("a".to_owned()), ..Words::default() }.request().is_err());
        assert!(Words { header: vec!["x".to_owned()], ..args("GET /") }.request().is_err());
        assert!(Words { header: vec!["host: x".to_owned()], ..args("GET /") }.request().is_err());
        assert!(Words { grpc: Some("a".to_owned()), ..Words::default() }.request().is_err());
    }
}
