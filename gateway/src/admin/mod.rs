//! The operator's API, on a listener and under a key of its own: looks at what runs, reads the config again, takes backends
//! out. Must never show a secret or a prompt, nor be reachable where callers are.

mod backends;
mod settings;
mod tenants;

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::StatusCode;
use rustls::ServerConfig;
use serde_json::{Value, json};
use subtle::Choice;

use crate::caller;
use crate::config::server::ConnectionSettings;
use crate::layers::panics;
use crate::listener::House;
use crate::live::Live;
use crate::tenants::key::KeyHash;

/// Connections open at once: an operator, a few scripts.
const CONNECTIONS_MAX: usize = 64;

/// What stands behind the admin's socket.
pub struct Office {
    live: Arc<Live>,
    app: Router,
}

impl Office {
    /// For this gateway.
    pub fn new(live: Arc<Live>) -> Self {
        let app = app(Arc::clone(&live));
        Office { live, app }
    }
}

impl House for Office {
    fn app(&self) -> Router {
        self.app.clone()
    }

    fn limits(&self) -> ConnectionSettings {
        ConnectionSettings { max: CONNECTIONS_MAX, ..self.live.limits() }
    }

    fn tls(&self) -> Option<Arc<ServerConfig>> {
        self.live.tls()
    }
}

fn app(live: Arc<Live>) -> Router {
    Router::new()
        .route("/admin/config", get(settings::show))
        .route("/admin/metrics", get(settings::metrics))
        .route("/admin/reload", post(settings::reload))
        .route("/admin/drain", post(settings::drain))
        .route("/admin/undrain", post(settings::undrain))
        .route("/admin/backends", get(backends::list))
        .route("/admin/backends/{name}/drain", post(backends::drain))
        .route("/admin/backends/{name}/undrain", post(backends::undrain))
        .route("/admin/tenants", get(tenants::list))
        .method_not_allowed_fallback(|| async {
            error(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "this path does not take this method")
        })
        .fallback(|| async { error(StatusCode::NOT_FOUND, "not_found", "no such path") })
        // Outermost, so that who has no key learns of no path.
        .layer(from_fn_with_state(Arc::clone(&live), key))
        .layer(from_fn(|request: Request, next: Next| panics::layer(request, |request| next.run(request))))
        .with_state(live)
}

/// Lets only the key's owner in.
async fn key(State(live): State<Arc<Live>>, request: Request, next: Next) -> Response {
    let wanted = live.current().settings.admin.as_ref().map(|admin| admin.key);
    let sent = KeyHash::of(caller::key(request.headers()).unwrap_or_default());
    // As long for a wrong key as for the right one.
    let fits = wanted.map_or(Choice::from(0), |wanted| wanted.matches(&sent));
    if !bool::from(fits) {
        tracing::warn!("the admin API was asked without its key");
        let message = "missing or wrong key: send it as `Authorization: Bearer …` or `x-api-key`";
        return error(StatusCode::UNAUTHORIZED, "unauthorized", message);
    }
    if request.method() != http::Method::GET {
        let route = request.uri().path().to_owned();
        tracing::info!(route, "the admin API is asked");
    }
    next.run(request).await
}

fn error(status: StatusCode, code: &str, message: &str) -> Response {
    (status, Json(json!({"error": {"code": code, "message": message}}))).into_response()
}

/// Seconds since 1970.
fn seconds(at: std::time::SystemTime) -> Value {
    json!(at.duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Inputs;
    use crate::metrics::Scrape;
    use axum::body::Body;
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    const KEY: &str = "weir_0123456789abcdef0123456789abcdef";

    /// A gateway without engines, its config file, and its admin API.
    async fn office(folder: &std::path::Path, text: &str) -> (Arc<Live>, Router) {
        write(folder, text);
        let env = vec![("ADMIN".to_owned(), KEY.to_owned())];
        let inputs = Inputs { file: Some(folder.join("weir.toml")), env, ..Inputs::default() };
        let (live, ()) = Live::start(inputs, |_| Ok(())).await.unwrap();
        let app = app(Arc::clone(&live));
        (live, app)
    }

    fn write(folder: &std::path::Path, text: &str) {
        let base = "[engine.diffusion]\nenabled = false\n[engine.ar]\nenabled = false\n\
                    [admin]\nlisten = \"127.0.0.1:0\"\nkey_env = \"ADMIN\"\n";
        std::fs::write(folder.join("weir.toml"), format!("{base}{text}")).unwrap();
    }

    fn backend(name: &str, rest: &str) -> String {
        format!("[[backend]]\nname = \"{name}\"\nbase_url = \"http://127.0.0.1:1/v1\"\nmodel = \"m\"\n{rest}\n")
    }

    async fn send(app: &Router, method: &str, path: &str, key: Option<&str>) -> (StatusCode, Value) {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(key) = key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        let response = app.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }

    #[tokio::test]
    async fn nobody_without_the_key_learns_of_any_path() {
        let folder = tempfile::tempdir().unwrap();
        let (_, app) = office(folder.path(), &backend("a", "")).await;
        for key in [None, Some(""), Some("weir_wrong"), Some(&KEY[..KEY.len() - 1])] {
            for (method, path) in [("GET", "/admin/config"), ("POST", "/admin/reload"), ("GET", "/nothing")] {
                assert_eq!(send(&app, method, path, key).await.0, StatusCode::UNAUTHORIZED, "{method} {path}");
            }
        }
        assert_eq!(send(&app, "GET", "/admin/config", Some(KEY)).await.0, StatusCode::OK);
        assert_eq!(send(&app, "GET", "/nothing", Some(KEY)).await.0, StatusCode::NOT_FOUND);
        assert_eq!(send(&app, "GET", "/admin/reload", Some(KEY)).await.0, StatusCode::METHOD_NOT_ALLOWED);
    }

    #[tokio::test]
    async fn a_reload_takes_what_is_good_and_says_what_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let (live, app) = office(folder.path(), &backend("a", "")).await;
        let reload = async || send(&app, "POST", "/admin/reload", Some(KEY)).await;
        let (status, said) = reload().await;
        assert_eq!((status, said["outcome"].as_str()), (StatusCode::OK, Some("unchanged")));
        write(folder.path(), &(backend("a", "") + &backend("b", "")));
        let (status, said) = reload().await;
        assert_eq!(
            (status, said["outcome"].as_str(), said["generation"].as_u64()),
            (StatusCode::OK, Some("applied"), Some(2))
        );
        assert_eq!(said["changed"][0], "backend `b` added");
        for (text, status, word) in [
            ("[[backend]]\nname = \"a\"\n", StatusCode::UNPROCESSABLE_ENTITY, "base_url"),
            ("[server]\nlisten = \"127.0.0.1:9\"\n", StatusCode::CONFLICT, "`server.listen` needs a restart"),
            ("[policy]\nfile = \"gone.toml\"\n", StatusCode::UNPROCESSABLE_ENTITY, "gone.toml"),
        ] {
            write(folder.path(), &(backend("b", "") + text));
            let (got, said) = reload().await;
            assert_eq!(got, status, "{said}");
            assert!(said["reasons"].to_string().contains(word), "{said}");
            assert_eq!(live.current().number, 2, "the old one stays");
        }
        let page = live.metrics().render(&Scrape::default()).unwrap();
        for line in [
            r#"weir_config_reloads_total{outcome="applied"} 1"#,
            r#"weir_config_reloads_total{outcome="unchanged"} 1"#,
            r#"weir_config_reloads_total{outcome="invalid"} 2"#,
            r#"weir_config_reloads_total{outcome="needs_restart"} 1"#,
            "weir_config_last_reload_successful 0",
        ] {
            assert!(page.contains(line), "{line}: {page}");
        }
        let shown = send(&app, "GET", "/admin/config", Some(KEY)).await.1;
        assert_eq!(shown["last_reload"]["outcome"], "invalid", "{shown}");
    }

    #[tokio::test]
    async fn what_a_backend_has_lived_through_outlives_the_config() {
        let folder = tempfile::tempdir().unwrap();
        let (live, app) = office(folder.path(), &(backend("a", "") + &backend("b", ""))).await;
        let standing = |name: &str| {
            let now = live.current();
            Arc::clone(&now.gateway.router.backends().by_name(name).unwrap().standing)
        };
        let (a, b) = (standing("a"), standing("b"));
        for name in ["a", "b"] {
            assert_eq!(send(&app, "POST", &format!("/admin/backends/{name}/drain"), Some(KEY)).await.0, StatusCode::OK);
        }
        for nobody in ["nobody", "%ff"] {
            let (status, said) = send(&app, "POST", &format!("/admin/backends/{nobody}/drain"), Some(KEY)).await;
            assert_eq!((status, said["error"]["code"].as_str()), (StatusCode::NOT_FOUND, Some("not_found")));
        }
        write(folder.path(), &(backend("a", "") + &backend("b", "takes_images = true")));
        assert_eq!(send(&app, "POST", "/admin/reload", Some(KEY)).await.1["outcome"], "applied");
        assert!(Arc::ptr_eq(&a, &standing("a")), "the same settings, the same standing");
        assert!(!Arc::ptr_eq(&b, &standing("b")), "others, another");
        assert!(standing("b").is_drained(), "but the operator's word holds");
        assert_eq!(send(&app, "POST", "/admin/backends/b/undrain", Some(KEY)).await.1["drained"], false);
        assert!(!standing("b").is_drained());
    }
}
