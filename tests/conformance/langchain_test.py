"""LangChain's own standard tests of chat models (`langchain-tests`), with its OpenAI and Anthropic packages against the real
gateway and its embedded AR model. `conformance_test.py` starts both. What that model is too small for is expected to fail; a
test that passes unexpectedly fails the run, so that the list stays true."""

import os

import pytest
from langchain_anthropic import ChatAnthropic
from langchain_openai import ChatOpenAI
from langchain_tests.integration_tests import ChatModelIntegrationTests

# Keys are not asked for; the packages want some.
os.environ.setdefault("OPENAI_API_KEY", "not-checked")
os.environ.setdefault("ANTHROPIC_API_KEY", "not-checked")

# A call of the right tool by construction, but a million parameters do not know that 3 is three.
TOO_SMALL = pytest.mark.xfail(strict=True, reason="the embedded model does not find the right arguments")


class Standard(ChatModelIntegrationTests):
    """What both have in common."""

    has_tool_calling = True
    has_structured_output = True

    @TOO_SMALL
    def test_tool_calling(self, model):
        super().test_tool_calling(model)

    @TOO_SMALL
    async def test_tool_calling_async(self, model):
        await super().test_tool_calling_async(model)

    @TOO_SMALL
    def test_tool_calling_with_no_arguments(self, model):
        super().test_tool_calling_with_no_arguments(model)

    @TOO_SMALL
    def test_unicode_tool_call_integration(self, model):
        super().test_unicode_tool_call_integration(model)


class TestOpenAI(Standard):
    @property
    def structured_output_kwargs(self):
        # Left alone the model says the same words until its limit, and what the limit closed OpenAI's SDK does not parse.
        return {"method": "json_schema", "frequency_penalty": 2, "max_tokens": 256}

    @property
    def chat_model_class(self):
        return ChatOpenAI

    @property
    def chat_model_params(self):
        base = os.environ["WEIR_BASE"] + "/v1"
        return {"model": "ar", "base_url": base, "max_tokens": 64, "temperature": 0, "stream_usage": True, "max_retries": 0}


class TestAnthropic(Standard):
    @property
    def chat_model_class(self):
        return ChatAnthropic

    @property
    def chat_model_params(self):
        return {"model": "ar", "base_url": os.environ["WEIR_BASE"], "max_tokens": 64, "max_retries": 0}
