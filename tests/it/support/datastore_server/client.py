"""What Google's own client finds in the stand-in for Datastore: it must be what it finds in the service.

Environment: DATASTORE_URL, its address. Entities are written, read, counted, paged through and deleted, in a named database too.
"""

import os
import sys

import requests
from google.api_core import exceptions
from google.auth.exceptions import RefreshError
from google.cloud import datastore
from google.cloud.datastore.helpers import GeoPoint
from google.oauth2 import credentials

URL = os.environ["DATASTORE_URL"]
TOKEN = requests.post(URL + "/token", timeout=20).json()["access_token"]


def client(database=None, token=TOKEN):
    options = {"api_endpoint": URL}
    return datastore.Client(
        project="shop-test", database=database, credentials=credentials.Credentials(token), client_options=options, _use_grpc=False
    )


def refused(kind, deed):
    try:
        deed()
    except kind as error:
        return error
    sys.exit(f"expected {kind.__name__}")


def entities(c, kind, count):
    for number in range(count):
        entity = datastore.Entity(c.key("Shelf", "a", kind, number + 1), exclude_from_indexes=("long",))
        entity.update(
            {
                "n": number, "text": "ä", "long": "x" * 2000, "flag": number % 2 == 0, "half": 0.5, "none": None, "blob": b"\xff\x00",
                "place": GeoPoint(1.5, -2.5), "key": c.key("Other", "name"), "list": [1, "a", None],
            }
        )
        yield entity


for database in [None, "archive"]:
    c = client(database)
    written = list(entities(c, "Note", 90))
    c.put_multi(written)
    keys = [entity.key for entity in written]
    missing, deferred = [], []
    found = c.get_multi(keys + [c.key("Note", "nosuch")], missing=missing)
    assert len(found) == 90 and len(missing) == 1, (len(found), missing)
    by_key = {entity.key: dict(entity) for entity in found}
    assert all(by_key[entity.key] == dict(entity) for entity in written), "what is read is what was written"

    query = c.query(kind="Note")
    query.keys_only()
    listed = [entity.key for entity in query.fetch()]
    assert listed == keys, "keys in order, over several pages"
    page = c.query(kind="Note").fetch(limit=7)
    first = list(next(page.pages))
    assert [entity.key for entity in first] == keys[:7]
    rest = [entity.key for entity in c.query(kind="Note").fetch(start_cursor=page.next_page_token)]
    assert rest == keys[7:], "a cursor goes on"
    assert list(c.query(kind="Nosuch").fetch()) == []

    count = c.aggregation_query(c.query(kind="Note")).count(alias="all")
    assert [result.value for results in count.fetch() for result in results] == [90]

    fresh = datastore.Entity(c.key("Note"))
    c.put(fresh)
    assert fresh.key.id, "an incomplete key is completed"
    c.reserve_ids_multi([c.key("Note", fresh.key.id + 1)])
    allocated = c.allocate_ids(c.key("Note"), 2)
    assert [key.id for key in allocated] == [fresh.key.id + 2, fresh.key.id + 3], "a reserved id is not handed out"

    c.delete_multi(keys[:50] + [fresh.key])
    assert [entity.key for entity in c.query(kind="Note").fetch()] == keys[50:]
    big = datastore.Entity(c.key("Note", "big"))
    big["text"] = "x" * 1501
    assert "longer than 1500 bytes" in str(refused(exceptions.BadRequest, lambda: c.put(big)))

assert len(list(client().query(kind="Note").fetch())) == 40, "databases are apart"
refused(exceptions.NotFound, lambda: client("nosuch").get(client("nosuch").key("Note", 1)))
# After a 401 it asks for another token, for which these credentials have no means.
refused(RefreshError, lambda: client(token="nobody").get(c.key("Note", 1)))
