"""Requests that the description allows, for a model that is there and answers that are short."""

import schemathesis


@schemathesis.hook
def map_body(context, body):
    if isinstance(body, dict):
        body.update(model="ar", max_tokens=8)
    return body
