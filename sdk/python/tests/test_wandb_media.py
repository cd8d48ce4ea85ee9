"""Media and tables of the unmodified `wandb` package, in its current version and an older one."""

import base64
import json

import pytest
from test_wandb_clients import client, stored  # noqa: F401 - a fixture

pytest.importorskip("wandb")

# The client does not look into files that it does not convert.
MEDIA = """
import wandb
from pathlib import Path
run = wandb.init(project="{project}", id="r")
Path("tone.wav").write_bytes(b"a sound")
Path("clip.gif").write_bytes(b"a video")
for i in range(2):
    run.log({{
        "page": wandb.Html(f"<p>{{i}}</p>", inject=False),
        "rows": wandb.Table(columns=["n", "word"], data=[[i, "one"], [2, None]]),
        "sound": wandb.Audio("tone.wav", caption=f"tone {{i}}"),
        "clip": wandb.Video("clip.gif", format="gif", caption=f"clip {{i}}"),
        "nested": {{"sound": wandb.Audio("tone.wav")}},
    }})
run.finish()
"""

READ_FILES = """
import json, wandb
from pathlib import Path
contents = {{}}
for file in wandb.Api().run("matyan/{project}/r").files():
    if file.name.startswith("media/"):
        contents[file.name] = Path(file.download(root="read").name).read_text()
print(json.dumps(contents))
"""


@pytest.fixture
def logged(client, shared_server):  # noqa: F811
    """A run with media and tables."""
    project = f"media-{client.directory.name}"
    client.run(MEDIA.format(project=project), shared_server.url)
    return stored(shared_server, "r", project)


def content(sound):
    return base64.b64decode(sound.json()["data"])


def test_pages_and_sounds_are_objects_with_their_content(logged):
    pages = logged.get_html_sequence("page")
    assert pages.indices == [0, 1]
    assert [page.data for page in pages.values] == ["<p>0</p>", "<p>1</p>"]
    sounds = logged.get_audio_sequence("sound")
    assert sounds.indices == [0, 1]
    assert [(content(it), it.format, it.caption) for it in sounds.values] == [
        (b"a sound", "wav", "tone 0"),
        (b"a sound", "wav", "tone 1"),
    ]
    nested = logged.get_audio_sequence("nested.sound")
    assert [content(sound) for sound in nested.values] == [b"a sound"] * 2


def test_tables_and_videos_are_texts_that_name_their_files(logged):
    def described(name):
        texts = logged.get_text_sequence(name)
        assert texts.indices == [0, 1]
        return [json.loads(text.data) for text in texts.values]

    for i, table in enumerate(described("rows")):
        assert (table["_type"], table["nrows"], table["ncols"]) == ("table-file", 2, 2)
        file = json.loads(logged.get_artifact(table["path"]))
        assert file["columns"] == ["n", "word"]
        assert file["data"] == [[i, "one"], [2, None]]
    for i, clip in enumerate(described("clip")):
        assert (clip["_type"], clip["caption"]) == ("video-file", f"clip {i}")
        assert logged.get_artifact(clip["path"]) == b"a video"


def test_the_public_api_downloads_files_of_media_and_tables(
    client,  # noqa: F811
    logged,
    shared_server,
):
    project = logged.experiment
    files = json.loads(client.run(READ_FILES.format(project=project), shared_server.url))
    contents = {}
    for path, text in files.items():
        contents.setdefault(path.split("/")[1], set()).add(text)
    assert contents["html"] == {"<p>0</p>", "<p>1</p>"}
    assert contents["audio"] == {"a sound"}
    assert contents["videos"] == {"a video"}
    tables = [json.loads(text)["data"] for text in contents["table"]]
    assert sorted(tables, key=str) == [[[0, "one"], [2, None]], [[1, "one"], [2, None]]]
