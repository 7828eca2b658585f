"""The chat template: the jinja text shipped with the models, and the same in Python.

The role format is that of LLaDA2; as the nano models are tiny, the tools
section lists the function names only instead of their JSON schemas.
"""

JINJA = """\
{%- set ns = namespace(system='') -%}
{%- for m in messages -%}
{%- if m.role == 'system' or m.role == 'developer' -%}
{%- if m.content -%}{%- set ns.system = ns.system + m.content + '\\n' -%}{%- endif -%}
{%- endif -%}
{%- endfor -%}
{{- '<role>SYSTEM</role>' + ns.system -}}
{%- if tools -%}
{{- '# Tools\\n<tools>' -}}
{%- for tool in tools -%}
{%- if tool.function -%}{{- '\\n' + tool.function.name -}}{%- else -%}{{- '\\n' + tool.name -}}{%- endif -%}
{%- endfor -%}
{{- '\\n</tools>\\n' -}}
{%- endif -%}
{{- 'detailed thinking off<|role_end|>' -}}
{%- for m in messages -%}
{%- if m.role == 'user' -%}
{{- '<role>HUMAN</role>' + m.content + '<|role_end|>' -}}
{%- elif m.role == 'assistant' -%}
{{- '<role>ASSISTANT</role>' -}}
{%- if m.content -%}{{- m.content -}}{%- endif -%}
{%- if m.tool_calls -%}
{%- for call in m.tool_calls -%}
{%- if m.content or loop.index > 1 -%}{{- '\\n' -}}{%- endif -%}
{%- if call.function -%}{%- set f = call.function -%}{%- else -%}{%- set f = call -%}{%- endif -%}
{{- '<tool_call>\\n{"name": "' + f.name + '", "arguments": ' -}}
{%- if f.arguments is string -%}{{- f.arguments -}}{%- else -%}{{- f.arguments | tojson -}}{%- endif -%}
{{- '}\\n</tool_call>' -}}
{%- endfor -%}
{%- endif -%}
{{- '<|role_end|>' -}}
{%- elif m.role == 'tool' -%}
{%- if loop.index0 == 0 or messages[loop.index0 - 1].role != 'tool' -%}{{- '<role>OBSERVATION</role>' -}}{%- endif -%}
{{- '\\n<tool_response>\\n' + m.content + '\\n</tool_response>' -}}
{%- if loop.last or messages[loop.index0 + 1].role != 'tool' -%}{{- '<|role_end|>' -}}{%- endif -%}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<role>ASSISTANT</role>' -}}{%- endif -%}
"""

START, END, MASK, ROLE_END = "<|startoftext|>", "<|endoftext|>", "<|mask|>", "<|role_end|>"
SPECIAL = [START, END, MASK, ROLE_END, "<role>", "</role>"]
VISIBLE = ["<tool_call>", "</tool_call>"]


def render(user, system=None, tools=None):
    """The prompt of a one-turn chat; `tools` is a list of function names."""
    text = "<role>SYSTEM</role>"
    if system:
        text += system + "\n"
    if tools:
        text += "# Tools\n<tools>" + "".join("\n" + t for t in tools) + "\n</tools>\n"
    text += f"detailed thinking off{ROLE_END}<role>HUMAN</role>{user}{ROLE_END}<role>ASSISTANT</role>"
    return text
