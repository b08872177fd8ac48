"""All tasks, by the dialect of their route."""

from collections.abc import Mapping
from typing import Final

from adapters.dialects.openai_tasks.embeddings import EMBEDDINGS
from adapters.dialects.openai_tasks.images import IMAGE_EDITS, IMAGES
from adapters.dialects.openai_tasks.moderations import MODERATIONS
from adapters.dialects.openai_tasks.rerank import RERANK
from adapters.dialects.openai_tasks.speech import SPEECH
from adapters.dialects.openai_tasks.task import Task
from adapters.dialects.openai_tasks.transcriptions import TRANSCRIPTIONS, TRANSLATIONS
from domain.catalog import Dialect

TASKS: Final[Mapping[Dialect, Task]] = {
    task.dialect: task
    for task in (EMBEDDINGS, IMAGES, IMAGE_EDITS, SPEECH, TRANSCRIPTIONS, TRANSLATIONS, RERANK, MODERATIONS)
}
