"""What models do beside conversations: embeddings, images, speech, transcription, reranking, moderation.

Each task is one request and one answer in OpenAI's words (Cohere's for reranking), passed on byte for byte like a
chat in its vendor's own dialect, and priced in its own units.  A module a task says how a request is read, what it can
use at most, and what an answer has used; `endpoint` does the rest for all of them.
"""
