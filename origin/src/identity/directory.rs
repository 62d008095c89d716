//! What is known of accounts and projects, read at most every few seconds.
//!
//! A change made through this node counts at once, one made through another when what was read here is too old: that is
//! how soon a revocation reaches every origin. What does not exist is remembered as well.

use std::{sync::Arc, time::Duration};

use gossip::access::ProjectName;
use moka::future::Cache;

use crate::database::{Database, Error, accounts::Account, projects::Standing};

/// How long what was read may be used.
const FRESH: Duration = Duration::from_secs(3);
/// Answers of each kind that are remembered.
const MAX_ENTRIES: u64 = 20_000;

/// See the module.
#[derive(Debug)]
pub(crate) struct Directory {
    database: Database,
    by_id: Cache<i64, Option<Arc<Account>>>,
    by_name: Cache<String, Option<Arc<Account>>>,
    standings: Cache<(Option<i64>, ProjectName), Option<Arc<Standing>>>,
}

impl Directory {
    pub(super) fn new(database: Database) -> Self {
        Self {
            database,
            by_id: Cache::builder().max_capacity(MAX_ENTRIES).time_to_live(FRESH).build(),
            by_name: Cache::builder().max_capacity(MAX_ENTRIES).time_to_live(FRESH).build(),
            standings: Cache::builder().max_capacity(MAX_ENTRIES).time_to_live(FRESH).build(),
        }
    }

    /// The account that a token was made for.
    pub(crate) async fn account(&self, id: i64) -> Result<Option<Arc<Account>>, Arc<Error>> {
        let read = async { Ok(self.database.account_by_id(id).await?.map(Arc::new)) };
        self.by_id.try_get_with(id, read).await
    }

    /// The account of that name, as it was a moment ago.
    pub(crate) async fn account_named(&self, name: &str) -> Result<Option<Arc<Account>>, Arc<Error>> {
        let read = async { Ok(self.database.account(name).await?.map(Arc::new)) };
        self.by_name.try_get_with_by_ref(name, read).await
    }

    /// The account of that name, read now.
    pub(crate) async fn account_now(&self, name: &str) -> Result<Option<Arc<Account>>, Error> {
        let account = self.database.account(name).await?.map(Arc::new);
        self.by_name.insert(name.to_owned(), account.clone()).await;
        Ok(account)
    }

    /// A project, and what an account is in it.
    pub(crate) async fn standing(
        &self,
        project: &ProjectName,
        account: Option<i64>,
    ) -> Result<Option<Arc<Standing>>, Arc<Error>> {
        let read = async { Ok(self.database.standing(project, account).await?.map(Arc::new)) };
        self.standings.try_get_with((account, project.clone()), read).await
    }

    /// Something was changed through this node.
    pub(crate) fn forget(&self) {
        self.by_id.invalidate_all();
        self.by_name.invalidate_all();
        self.standings.invalidate_all();
    }
}
