//! DescribeUserScramCredentials (key 50), version 0.
//!
//! Nobody has credentials: without names (null or none) the list is empty, and each user that is named is
//! RESOURCE_NOT_FOUND, one that is named twice DUPLICATE_RESOURCE. `kafka-configs.sh` asks for them beside the quotas of users.

use std::collections::BTreeSet;

use crate::server::dispatch::{Outcome, any_error};
use crate::wire::error_code::ErrorCode;
use crate::wire::generated::describe_user_scram_credentials::{
    DescribeUserScramCredentialsRequest, DescribeUserScramCredentialsResponse, DescribeUserScramCredentialsResult,
};

pub(crate) fn handle(body: DescribeUserScramCredentialsRequest) -> DescribeUserScramCredentialsResponse {
    let names: Vec<String> = body.users.unwrap_or_default().into_iter().map(|user| user.name).collect();
    let mut once = BTreeSet::new();
    let twice: BTreeSet<String> = names.iter().filter(|name| !once.insert(*name)).cloned().collect();
    let result = |user: &String| {
        let error = match twice.contains(user) {
            true => ErrorCode::DuplicateResource,
            false => ErrorCode::ResourceNotFound,
        };
        DescribeUserScramCredentialsResult {
            user: user.clone(),
            error_code: error.code(),
            error_message: Some(error.message().to_owned()),
            ..DescribeUserScramCredentialsResult::default()
        }
    };
    let results = once.into_iter().map(result).collect();
    DescribeUserScramCredentialsResponse { results, ..DescribeUserScramCredentialsResponse::default() }
}

impl Outcome for DescribeUserScramCredentialsResponse {
    fn has_error(&self) -> bool {
        any_error(self.results.iter().map(|result| result.error_code))
    }
}
