//! Requests to a web service.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
};

use provider::ActionError;

use crate::services::{Agent, free_port};

/// What a service was asked: request line, headers in lower case, body.
#[derive(Clone, Debug, Default)]
struct Asked {
    line: String,
    headers: Vec<String>,
    body: String,
}

/// A service that answers by the path, and notes what it was asked.
struct Service {
    port: u16,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Service {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let noted = asked.clone();
        std::thread::spawn(move || listener.incoming().flatten().for_each(|stream| drop(std::thread::spawn({ let noted = noted.clone(); move || serve(stream, port, &noted) }))));
        Self { port, asked }
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

fn serve(mut stream: TcpStream, port: u16, noted: &Mutex<Vec<Asked>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut asked = Asked::default();
    reader.read_line(&mut asked.line).unwrap();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if line.trim().is_empty() {
            break;
        }
        asked.headers.push(line.trim().to_owned());
    }
    let length = asked.headers.iter().find_map(|h| h.strip_prefix("content-length: ")).map_or(0, |n| n.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    asked.body = String::from_utf8(body).unwrap();
    let token = asked.headers.iter().find(|h| h.starts_with("authorization")).cloned().unwrap_or_default();
    let path = asked.line.split(' ').nth(1).unwrap().to_owned();
    noted.lock().unwrap().push(asked);
    let answer = |status: &str, more: &str, body: &str| format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n{more}\r\n{body}", body.len());
    let text = match path.as_str() {
        "/ok" => answer("200 OK", "", "done"),
        "/echo" => answer("200 OK", "", &format!("you said {token}")),
        "/busy" => answer("503 Not now", "", ""),
        "/no" => answer("422 No", "", "the pool is unknown"),
        "/here" => answer("307 There", &format!("location: http://127.0.0.1:{port}/ok\r\n"), ""),
        "/away" => answer("307 There", "location: http://localhost.example:9/ok\r\n", ""),
        "/port" => answer("307 There", &format!("location: http://127.0.0.1:{}/ok\r\n", port.wrapping_add(1)), ""),
        "/round" => answer("307 There", "location: /round\r\n", ""),
        "/flood" => format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{}", "x".repeat(8 << 20)),
        "/broken" => return,
        _ => {
            drop(stream.read(&mut [0])); // until the caller goes
            return;
        }
    };
    drop(stream.write_all(text.as_bytes()));
}

#[tokio::test]
async fn a_request_carries_what_the_plan_says_which_step_it_is_and_a_secret_that_is_not_told() {
    let (agent, service) = (Agent::new(), Service::start());
    agent.put("secrets/lb", 0o600, "Bearer s3cr3t-t0ken\n");
    let yaml = format!(
        "http: {{ method: POST, url: '{}', headers: {{ x-pool: web }}, body: '{{}}', secret-header: {{ name: authorization, secret: lb }} }}",
        service.url("/echo")
    );
    let done = agent.does(&yaml).await.unwrap();
    assert_eq!((done.status, done.said.text().as_str()), (Some(200), "you said authorization: [secret]"));
    assert!(!format!("{done:?}").contains("s3cr3t"));
    let asked = &service.asked()[0];
    assert_eq!((asked.line.as_str(), asked.body.as_str()), ("POST /echo HTTP/1.1\r\n", "{}"));
    for header in ["x-pool: web", "authorization: Bearer s3cr3t-t0ken", "switchback-plan: shop", "switchback-item: db9", "idempotency-key: \"run-1/web/db9/tell\""] {
        assert!(asked.headers.contains(&header.to_owned()), "{header}: {asked:?}");
    }
}

#[tokio::test]
async fn without_a_body_what_asks_is_told_as_json() {
    let (agent, service) = (Agent::new(), Service::start());
    agent.does(&format!("http: {{ method: PUT, url: '{}' }}", service.url("/ok"))).await.unwrap();
    agent.does(&format!("http: {{ method: GET, url: '{}' }}", service.url("/ok"))).await.unwrap();
    let asked = service.asked();
    assert_eq!(asked[0].body, serde_json::to_string(&crate::services::context()).unwrap());
    assert_eq!(asked[1].body, "");
}

#[tokio::test]
async fn an_answer_is_judged_by_what_the_plan_expects_and_by_whether_it_may_be_asked_again() {
    let (agent, service) = (Agent::new(), Service::start());
    let ask = async |method: &str, path: &str, more: &str| agent.does(&format!("http: {{ method: {method}, url: '{}'{more} }}", service.url(path))).await;
    assert_eq!(ask("GET", "/no", ", expect: [422]").await.unwrap().status, Some(422));
    let no = ask("PUT", "/no", "").await.unwrap_err();
    assert!(matches!(&no, ActionError::Failed { status: Some(422), said, .. } if said.text() == "the pool is unknown"), "{no:?}");
    assert!(matches!(ask("PUT", "/busy", "").await.unwrap_err(), ActionError::NotNow { .. }));
    assert!(matches!(ask("POST", "/busy", "").await.unwrap_err(), ActionError::Failed { status: Some(503), .. }));
    assert!(matches!(ask("POST", "/busy", ", repeatable: true").await.unwrap_err(), ActionError::NotNow { .. }));
    assert!(matches!(ask("POST", "/broken", "").await.unwrap_err(), ActionError::Unknown { .. }));
    let late = ask("POST", "/silence", ", within: 1s").await.unwrap_err();
    assert!(matches!(&late, ActionError::Unknown { detail, .. } if detail.ends_with("had not answered after 1s")), "{late:?}");
    let nobody = agent.does(&format!("http: {{ method: POST, url: 'http://127.0.0.1:{}/' }}", free_port())).await.unwrap_err();
    assert!(matches!(&nobody, ActionError::Unreachable { .. }), "{nobody:?}");
}

#[tokio::test]
async fn a_redirect_is_followed_on_the_same_host_and_port_alone() {
    let (agent, service) = (Agent::new(), Service::start());
    let ask = async |path: &str| agent.does(&format!("http: {{ method: GET, url: '{}' }}", service.url(path))).await;
    assert_eq!(ask("/here").await.unwrap().said.text(), "done");
    for path in ["/away", "/port", "/round"] {
        let stopped = ask(path).await.unwrap_err();
        assert!(matches!(&stopped, ActionError::Failed { status: Some(307), detail, .. } if detail.contains("a redirect that is not followed")), "{path}: {stopped:?}");
    }
    assert_eq!(service.asked().iter().filter(|asked| asked.line.contains("/round")).count(), 6);
}

#[tokio::test]
async fn of_a_flood_a_part_is_read_and_a_part_of_that_is_kept() {
    let (agent, service) = (Agent::new(), Service::start());
    let done = agent.does(&format!("http: {{ method: GET, url: '{}' }}", service.url("/flood"))).await.unwrap();
    assert!(done.said.left_out() < 5 << 20 && done.said.text().len() < 17_000);
}
