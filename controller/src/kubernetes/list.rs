//! All objects of a kind, once.

use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use policy_compiler::index::Interner;
use policy_compiler::model::NamespacedName;
use policy_compiler::validate::Options;

use super::decode::item;
use super::{Client, Error, Item, Resource, Selection};

/// So many objects are in a page.
const LIMIT: u32 = 500;

/// Until a page is there.
const PAGE: Duration = Duration::from_secs(60);

/// All objects of a kind, as they were at one time.
#[derive(Debug)]
pub struct List {
    /// The objects.
    pub items: Vec<Item>,
    /// What is wrong with objects that do not even say their names.
    pub nameless: Vec<String>,
    /// The version from which a watch goes on.
    pub version: String,
}

#[derive(Deserialize)]
struct Page<'a> {
    metadata: Metadata,
    /// Go writes an empty list as null.
    #[serde(borrow)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    resource_version: String,
    #[serde(default)]
    r#continue: String,
}

/// Lists all objects, page by page, as new as etcd.
///
/// # Errors
/// A page cannot be had. If it took so long that the API server forgot the version, all has to be listed again.
pub async fn all(
    client: &Client,
    selection: &Selection,
    options: Options,
    interner: &mut Interner,
) -> Result<List, Error> {
    let mut list = List {
        items: Vec::new(),
        nameless: Vec::new(),
        version: String::new(),
    };
    let mut next: Option<String> = None;
    loop {
        let answer = client.get(&selection.page(LIMIT, next.as_deref())).await?;
        let text = text(answer.all(PAGE).await?);
        let page: Page<'_> = read(&text)?;
        for raw in page.items.unwrap_or_default() {
            match item(selection.resource, raw.get(), options) {
                Ok(item) => list.items.push(item.interned(interner)),
                Err(wrong) => list.nameless.push(wrong),
            }
        }
        list.version = page.metadata.resource_version;
        if page.metadata.r#continue.is_empty() {
            return Ok(list);
        }
        next = Some(page.metadata.r#continue);
    }
}

/// The version of the API server's store.
///
/// # Errors
/// It cannot be had.
pub async fn version(client: &Client, selection: &Selection) -> Result<String, Error> {
    let answer = client.get(&selection.one()).await?;
    let text = text(answer.all(PAGE).await?);
    let page: Page<'_> = read(&text)?;
    Ok(page.metadata.resource_version)
}

/// What tells an object from others that had or will have its name; nothing if it is not there.
///
/// # Errors
/// It cannot be had.
pub async fn uid(
    client: &Client,
    resource: Resource,
    id: &NamespacedName,
) -> Result<Option<String>, Error> {
    #[derive(Deserialize)]
    struct Object {
        metadata: Of,
    }
    #[derive(Deserialize)]
    struct Of {
        uid: String,
    }
    let answer = client.get(&resource.one_of(id)).await?;
    let text = text(answer.all(PAGE).await?);
    let page: Page<'_> = read(&text)?;
    let items = page.items.unwrap_or_default();
    let Some(item) = items.first() else {
        return Ok(None);
    };
    let object: Object =
        serde_json::from_str(item.get()).map_err(|error| Error::Unreadable(error.to_string()))?;
    Ok(Some(object.metadata.uid))
}

/// A byte that is no UTF-8 spoils the text that it is in, not the page.
fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

fn read<'a>(text: &'a str) -> Result<Page<'a>, Error> {
    let page = serde_json::from_str::<Page<'_>>(text);
    let page = page.map_err(|error| Error::Unreadable(error.to_string()))?;
    match page.metadata.resource_version.is_empty() {
        true => Err(Error::Unreadable("it has no resourceVersion".to_owned())),
        false => Ok(page),
    }
}
