"""Both halves of the Responses codec, as translation wants them."""

from __future__ import annotations

from adapters.dialects.openai_responses.conversation_reader import read_conversation
from adapters.dialects.openai_responses.conversation_writer import write_conversation
from adapters.dialects.openai_responses.replies import ResponsesReplyWriter, write_reply
from adapters.dialects.openai_responses.reply_reader import ResponsesReplyReader, read_reply
from domain.errors import InvalidRequest
from domain.inference.chat import ChatCall
from domain.inference.conversation import Conversation, Written
from domain.inference.reply import Reply
from domain.usage import Usage


class ResponsesCaller:
    """The protocol `CallerCodec`."""

    def read_conversation(self, body: bytes) -> Conversation:
        conversation = read_conversation(body)
        if not conversation.turns:
            raise InvalidRequest("'input' is empty; put at least one item into it.", param="input")
        return conversation

    def write_reply(self, reply: Reply, usage: Usage, call: ChatCall) -> bytes:
        return write_reply(reply, usage, call)

    def reply_writer(self, call: ChatCall) -> ResponsesReplyWriter:
        return ResponsesReplyWriter(call)


class ResponsesCodec:
    """The protocol `VendorCodec`."""

    def write_conversation(self, conversation: Conversation, call: ChatCall) -> Written:
        return write_conversation(conversation, call)

    def read_reply(self, body: bytes) -> Reply:
        return read_reply(body)

    def reply_reader(self) -> ResponsesReplyReader:
        return ResponsesReplyReader()
