"""Google's own clients of both admin APIs, over REST, against the stand-in for operations.

Whatever they expect must happen, or this ends with an error.
"""

import os
import sys

from google.api_core import exceptions
from google.api_core.client_options import ClientOptions
from google.auth.credentials import AnonymousCredentials
from google.cloud.datastore_admin_v1 import DatastoreAdminClient, EntityFilter
from google.cloud.firestore_admin_v1 import FirestoreAdminClient

URL = os.environ["ADMIN_URL"]
PROJECT = "shop-test"


def client(kind):
    return kind(credentials=AnonymousCredentials(), client_options=ClientOptions(api_endpoint=URL), transport="rest")


def refused(kind, deed):
    try:
        deed()
    except kind:
        return
    sys.exit(f"expected {kind.__name__}")


datastore, firestore = client(DatastoreAdminClient), client(FirestoreAdminClient)

operation = datastore.export_entities(
    request={
        "project_id": PROJECT, "labels": {"night": "1"}, "output_url_prefix": "gs://exports/datastore/User",
        "entity_filter": EntityFilter(kinds=["User"], namespace_ids=["acme"]),
    }
)
assert operation.operation.name.startswith(f"projects/{PROJECT}/operations/"), operation.operation.name
response = operation.result(timeout=60)
assert response.output_url == "gs://exports/datastore/User/User.overall_export_metadata", response
metadata = operation.metadata
assert metadata.common.state.name == "SUCCESSFUL" and metadata.common.labels["night"] == "1", metadata
assert metadata.common.operation_type.name == "EXPORT_ENTITIES", metadata
assert list(metadata.entity_filter.kinds) == ["User"] and metadata.progress_entities.work_completed == 3, metadata
assert metadata.output_url_prefix == "gs://exports/datastore/User", metadata
datastore.import_entities(request={"project_id": PROJECT, "input_url": response.output_url}).result(timeout=60)

database = f"projects/{PROJECT}/databases/(default)"
operation = firestore.export_documents(
    request={
        "name": database, "collection_ids": ["User"], "namespace_ids": ["acme"],
        "output_uri_prefix": "gs://exports/firestore/User", "snapshot_time": "2025-11-22T10:00:00Z",
    }
)
response = operation.result(timeout=60)
assert response.output_uri_prefix == "gs://exports/firestore/User", response
metadata = operation.metadata
assert metadata.operation_state.name == "SUCCESSFUL" and metadata.progress_documents.completed_work == 3, metadata
assert list(metadata.collection_ids) == ["User"] and list(metadata.namespace_ids) == ["acme"], metadata
assert metadata.snapshot_time.isoformat() == "2025-11-22T10:00:00+00:00", metadata
firestore.import_documents(request={"name": database, "input_uri_prefix": response.output_uri_prefix}).result(timeout=60)

refused(
    exceptions.NotFound,
    lambda: firestore.export_documents(request={"name": database, "output_uri_prefix": "gs://nosuch/User"}),
)
refused(exceptions.BadRequest, lambda: datastore.import_entities(request={"project_id": PROJECT, "input_url": "gs://exports/nosuch/x"}))
