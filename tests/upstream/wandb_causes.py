"""The system tests of W&B that fail against this server, by the reason. docs/concepts/wandb.md explains the reasons."""

ARTIFACTS = "test_artifacts/test_wandb_artifacts.py"
ARTIFACTS_FULL = "test_artifacts/test_wandb_artifacts_full.py"
PUBLIC_ARTIFACTS = "test_artifacts/test_artifact_public_api.py"
OBJECTS = "test_artifacts/test_object_references.py"
RUN_ARTIFACTS = "test_artifacts/test_wandb_run_artifacts.py"
MEDIA = f"{OBJECTS}::TestMediaObjectReferentialEquality::test_media_obj_referential_equality"
CONSOLE = "test_functional/console_capture/test_console_capture.py"
LOGIN = "test_core/test_wandb_login.py"
PUBLIC_API = "test_core/test_public_api.py"
RESUME = "test_core/test_resume.py::test_resume__run_exists__success"

CAUSES = {
    "The server does not have what the test needs": [
        "test_artifacts/test_link_artifacts.py::test_linked_artifacts_field",
        f"{OBJECTS}::test_distributed_artifact_simple",
        f"{ARTIFACTS}::test_save_artifact_portfolio[empty string]",
        f"{ARTIFACTS}::test_save_artifact_portfolio[non-empty string]",
        f"{ARTIFACTS}::test_save_artifact_portfolio[null]",
        f"{ARTIFACTS}::test_save_artifact_sequence[empty string]",
        f"{ARTIFACTS}::test_save_artifact_sequence[non-empty string]",
        f"{ARTIFACTS_FULL}::test_storage_policy_storage_region_not_available",
    ],
    "The server has no users, teams and entities": [
        f"{PUBLIC_ARTIFACTS}::test_parse_artifact_path",
        f"{PUBLIC_API}::test_create_team",
        f"{PUBLIC_API}::test_query_team",
        f"{PUBLIC_API}::test_run_create",
        f"{PUBLIC_API}::test_viewer",
    ],
    "Without access control, the server accepts every key": [
        f"{LOGIN}::test_login_explicit_invalid_key_does_not_update_netrc",
        f"{LOGIN}::test_login_invalid_key_from_environment_raises",
    ],
    "The test expects a path, a message or a number of W&B's server": [
        f"{PUBLIC_ARTIFACTS}::test_artifact_files",
        f"{ARTIFACTS_FULL}::test_artifact_multipart_download_refresh_presigned_url",
        f"{ARTIFACTS_FULL}::test_retrieve_missing_artifact",
        f"{RESUME}[allow]",
        f"{RESUME}[must]",
    ],
    "The test does not fit a base URL with a path": [
        f"{RUN_ARTIFACTS}::test_artifact_string_digest_run_config_set_item",
        f"{RUN_ARTIFACTS}::test_artifact_string_run_config_set_item",
    ],
}

# Tests that pass on another machine.
OF_MACHINE = {
    "The test reads files on the internet, which this machine may not reach": [
        "test_artifacts/test_misc2.py::test_reference_download",
        *(f"{MEDIA}[audio_ref_{store}]" for store in ("gs", "https", "s3")),
        *(f"{MEDIA}[{table}]" for table in ("joined_table", "table")),
        f"{OBJECTS}::test_get_artifact_obj_by_name",
        f"{OBJECTS}::test_table_slice_reference_artifact",
        f"{RUN_ARTIFACTS}::test_wandb_artifact_config_set_item",
        f"{RUN_ARTIFACTS}::test_wandb_artifact_config_update",
        f"{RUN_ARTIFACTS}::test_wandb_artifact_init_config",
    ],
    "The test gives a script five seconds, which are not enough on a busy machine": [
        f"{CONSOLE}::test_deadlocks",
        f"{CONSOLE}::test_infinite_loop",
    ],
}
