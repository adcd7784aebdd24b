//! What only REST has: who calls, requests sent again, servers that don't answer, certificates.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tasker_client::{
    Credentials, Error, EventFilter, EventStart, NewTask, RestClient, RestOptions, Tasker,
    WaitError, WaitOptions,
};
use tasker_tests::application::of;
use tasker_tests::by_hand::{PAYMENT, register};
use tasker_tests::credentials::{Certificate, TokenPair, api_key, token_flags};
use tasker_tests::{Server, TestDatabase};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use uuid::Uuid;

const BUSY: &str =
    "{\"error\": {\"code\": \"server_busy\", \"message\": \"busy\", \"request_id\": \"r\"}}";

fn with(credentials: Credentials) -> RestOptions {
    RestOptions {
        credentials,
        ..RestOptions::default()
    }
}

fn tasker(url: &str, options: RestOptions) -> anyhow::Result<Tasker> {
    Ok(RestClient::new(url, options)?.into())
}

async fn database() -> anyhow::Result<TestDatabase> {
    let database = TestDatabase::new().await?;
    let of_shop = PAYMENT.replace("name: payment", "name: payment\nnamespace: shop");
    register(database.client(), &[PAYMENT, &of_shop]).await?;
    Ok(database)
}

#[tokio::test]
async fn a_caller_may_do_what_the_key_or_the_token_allows() -> anyhow::Result<()> {
    let database = database().await?;
    let pair = TokenPair::elliptic("first")?;
    let public_key = pair.public_key.display().to_string();
    let flags = [
        &["--authentication", "--jwt-public-key", &public_key][..],
        &token_flags(),
    ]
    .concat();
    let server = Server::start(database.url(), &flags).await?;

    let nobody = tasker(&server.url, RestOptions::default())?;
    let refused = nobody.create_task(&of("payment")).await;
    assert!(
        matches!(&refused, Err(Error::Unauthenticated(details)) if details.code == "credentials_missing"),
        "{refused:?}"
    );
    let stranger = tasker(
        &server.url,
        with(Credentials::ApiKey("nonsense".to_owned())),
    )?;
    let refused = stranger.create_task(&of("payment")).await;
    assert!(
        matches!(&refused, Err(Error::Unauthenticated(details)) if details.code == "credentials_refused"),
        "{refused:?}"
    );

    let key = api_key(
        &database,
        "shop",
        &["tasks:*", "steps:read"],
        Some(&["shop"]),
    )
    .await?;
    let shop = tasker(&server.url, with(Credentials::ApiKey(key)))?;
    let mut of_shop = of("payment");
    of_shop.namespace = "shop".to_owned();
    let task_uuid = shop.create_task(&of_shop).await?;
    let refused = shop.create_task(&of("payment")).await;
    assert!(
        matches!(&refused, Err(Error::Denied(details)) if details.code == "42501"),
        "{refused:?}"
    );
    let step = shop.list_steps(task_uuid).await?.remove(0).step_uuid;
    let refused = shop.reset_step(step, None).await;
    assert!(
        matches!(&refused, Err(Error::Denied(details)) if details.code == "permission_missing" && details.hint.is_some()),
        "{refused:?}"
    );
    let refused = nobody
        .events(EventFilter::default(), EventStart::Now)
        .next()
        .await;
    assert!(
        matches!(&refused, Some(Err(Error::Unauthenticated(_)))),
        "{refused:?}"
    );
    let cancelling = shop.clone();
    let waiting =
        tokio::spawn(async move { shop.wait_for_task(task_uuid, WaitOptions::default()).await });
    cancelling.cancel_task(task_uuid, None).await?;
    assert!(matches!(waiting.await?, Err(WaitError::Cancelled(_))));

    let token = pair.token(&["--permission", "tasks:read"]).await?;
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let give = Credentials::TokenFrom(Arc::new({
        let token = token.clone();
        move || {
            count.fetch_add(1, Ordering::SeqCst);
            token.clone()
        }
    }));
    for credentials in [Credentials::Token(token), give] {
        let reader = tasker(&server.url, with(credentials))?;
        assert_eq!(reader.get_task(task_uuid).await?.state, "cancelled");
        assert!(matches!(
            reader.cancel_task(task_uuid, None).await,
            Err(Error::Denied(_))
        ));
    }
    assert!(asked.load(Ordering::SeqCst) >= 2);
    Ok(())
}

/// A server that says the same to everybody.
struct Parrot {
    url: String,
    heard: Arc<AtomicUsize>,
    saying: tokio::task::JoinHandle<()>,
}

impl Drop for Parrot {
    fn drop(&mut self) {
        self.saying.abort();
    }
}

impl Parrot {
    async fn new(status: &str, body: &str) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let heard = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&heard);
        let said = format!(
            "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        );
        let saying = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let mut request = [0; 4096];
                // A caller that has gone away hears nothing.
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(said.as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        });
        Ok(Self { url, heard, saying })
    }

    fn heard(&self) -> usize {
        self.heard.swap(0, Ordering::SeqCst)
    }
}

#[tokio::test]
async fn what_is_harmless_to_repeat_is_sent_again_and_nothing_else() -> anyhow::Result<()> {
    let parrot = Parrot::new("503 Service Unavailable\r\nretry-after: 0", BUSY).await?;
    let tasker = tasker(&parrot.url, RestOptions::default())?;
    let keyed = NewTask {
        idempotency_key: Some("k".to_owned()),
        ..of("payment")
    };
    let some = Uuid::from_u128(1 << 20);
    let busy = |refused: Result<(), Error>| matches!(refused, Err(Error::Unavailable(_)));
    assert!(busy(tasker.get_task(some).await.map(drop)));
    assert_eq!(parrot.heard(), 3);
    assert!(busy(tasker.create_task(&keyed).await.map(drop)));
    assert_eq!(parrot.heard(), 3);
    assert!(busy(tasker.create_task(&of("payment")).await.map(drop)));
    assert_eq!(parrot.heard(), 1);
    assert!(busy(
        tasker
            .create_tasks(&[keyed.clone(), keyed.clone()])
            .await
            .map(drop)
    ));
    assert_eq!(parrot.heard(), 3);
    assert!(busy(
        tasker.create_tasks(&[keyed, of("payment")]).await.map(drop)
    ));
    assert_eq!(parrot.heard(), 1);
    assert!(busy(tasker.cancel_task(some, None).await.map(drop)));
    assert!(busy(tasker.pause_task(some, None).await.map(drop)));
    assert_eq!(parrot.heard(), 2);
    Ok(())
}

#[tokio::test]
async fn a_server_that_asks_for_a_longer_pause_than_the_bound_is_left_alone() -> anyhow::Result<()>
{
    let parrot = Parrot::new("503 Service Unavailable\r\nretry-after: 60", BUSY).await?;
    let tasker = tasker(&parrot.url, RestOptions::default())?;
    let begun = Instant::now();
    let refused = tasker.get_task(Uuid::from_u128(1 << 20)).await;
    assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
    assert_eq!(parrot.heard(), 1);
    assert!(begun.elapsed() < Duration::from_secs(30));

    let parrot = Parrot::new("503 Service Unavailable\r\nretry-after: 1", BUSY).await?;
    let tasker = RestClient::new(
        &parrot.url,
        RestOptions {
            attempts: 2,
            ..RestOptions::default()
        },
    )?;
    let begun = Instant::now();
    assert!(tasker.get_task(Uuid::from_u128(1 << 20)).await.is_err());
    assert_eq!(parrot.heard(), 2);
    assert!(begun.elapsed() >= Duration::from_secs(1));
    Ok(())
}

#[tokio::test]
async fn an_answer_of_somebody_else_is_told_as_such() -> anyhow::Result<()> {
    let some = Uuid::from_u128(1 << 20);
    let page = Parrot::new("200 OK", "<html>welcome</html>").await?;
    let refused = tasker(&page.url, RestOptions::default())?
        .get_task(some)
        .await;
    assert!(matches!(refused, Err(Error::Answer(_))), "{refused:?}");
    // Whoever it leads to isn't shown who calls.
    let elsewhere = Parrot::new("200 OK", "{}").await?;
    let head = format!(
        "307 Temporary Redirect\r\nlocation: {}/v1/tasks",
        elsewhere.url
    );
    let parrot = Parrot::new(&head, "").await?;
    let refused = tasker(&parrot.url, with(Credentials::ApiKey("k".to_owned())))?
        .get_task(some)
        .await;
    assert!(
        matches!(&refused, Err(Error::Database(details)) if details.code == "http_307"),
        "{refused:?}"
    );
    assert_eq!(elsewhere.heard(), 0);
    Ok(())
}

#[tokio::test]
async fn a_server_that_is_not_there_or_says_nothing_is_unreachable() -> anyhow::Result<()> {
    let some = Uuid::from_u128(1 << 20);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let options = RestOptions {
        timeout: Duration::from_millis(300),
        attempts: 1,
        ..RestOptions::default()
    };
    let silent = tasker(&url, options.clone())?;
    let refused = silent.get_task(some).await;
    assert!(matches!(refused, Err(Error::Unreachable(_))), "{refused:?}");
    drop(listener);
    let refused = silent.get_task(some).await;
    let Err(error @ Error::Unreachable(_)) = refused else {
        panic!("{refused:?}");
    };
    assert!(
        error.is_transient() && error.to_string().contains("the server can't be reached"),
        "{error}"
    );
    let wait = silent.wait_for_task(some, WaitOptions::default()).await;
    assert!(
        matches!(wait, Err(WaitError::Call(Error::Unreachable(_)))),
        "{wait:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_server_is_known_by_its_certificate() -> anyhow::Result<()> {
    let database = database().await?;
    let certificate = Certificate::new()?;
    let (file, key) = (certificate.file(), certificate.key_file());
    let flags = [
        "--tls-certificate",
        &file.display().to_string(),
        "--tls-key",
        &key.display().to_string(),
    ];
    let server = Server::start(database.url(), &flags).await?;
    let url = server.url.replace("http:", "https:");
    let options = RestOptions {
        ca_file: Some(file),
        ..RestOptions::default()
    };
    let known = tasker(&url, options)?;
    let task_uuid = known.create_task(&of("payment")).await?;
    let mut events = known.events(
        EventFilter {
            task_uuid: Some(task_uuid),
            ..EventFilter::default()
        },
        EventStart::Oldest,
    );
    assert!(matches!(events.next().await, Some(Ok(_))));
    let unknown = tasker(
        &url,
        RestOptions {
            attempts: 1,
            ..RestOptions::default()
        },
    )?;
    let refused = unknown.get_task(task_uuid).await;
    assert!(
        matches!(&refused, Err(error @ Error::Unreachable(_)) if error.to_string().contains("certificate")),
        "{refused:?}"
    );
    Ok(())
}
