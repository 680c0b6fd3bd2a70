"""`kvcalc mcp`: commands as tools for agents, over standard input and output."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvcalc.cli.commands import Command
from kvcalc.errors.extras import install

if TYPE_CHECKING:
    from mcp.server import Server, ServerRequestContext
    from mcp_types import CallToolRequestParams, CallToolResult, ListToolsResult, PaginatedRequestParams

_INSTRUCTIONS = (
    "Exact bytes of KV caches. Every number is an exact integer with its source; estimates are marked as such, and "
    "ambiguous or unknown input is refused with a suggestion: never fill in a number that was refused. Token counts "
    "follow vLLM: 128k is 128,000 and 128K is 131,072. GB is 10^9 bytes, GiB is 2^30. `answers` holds the values in "
    "bytes; the text is a table of the same values."
)


def run() -> int:
    """Runs `kvcalc mcp`."""
    from kvcalc.cli._verifying import needs

    needs("mcp", by="mcp")

    import anyio

    anyio.run(_serve)
    return 0


async def _serve() -> None:
    """Serves until the client closes standard input."""
    from mcp.server.stdio import stdio_server

    own = server()
    async with stdio_server() as (requests, answers):
        await own.run(requests, answers, own.create_initialization_options())


def server() -> Server[dict[str, object]]:
    """The server of all tools."""
    from mcp.server import Server

    from kvcalc import __version__

    return Server(
        "kvcalc",
        version=__version__,
        instructions=_INSTRUCTIONS,
        on_list_tools=_list_tools,
        on_call_tool=_call_tool,
    )


async def _list_tools(
    context: ServerRequestContext[dict[str, object]],  # noqa: ARG001  # signature of handlers
    params: PaginatedRequestParams | None,  # noqa: ARG001
) -> ListToolsResult:
    from mcp_types import ListToolsResult, Tool, ToolAnnotations

    from kvcalc.cli import _tools

    hints = ToolAnnotations(read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=True)
    tools = [
        Tool(
            name=name,
            description=_tools.description(name),
            input_schema=_tools.input_schema(name),
            output_schema=_tools.output_schema(name),
            annotations=hints,
        )
        for name in _tools.ANSWERED_BY
    ]
    return ListToolsResult(tools=tools)


async def _call_tool(
    context: ServerRequestContext[dict[str, object]],  # noqa: ARG001
    params: CallToolRequestParams,
) -> CallToolResult:
    from functools import partial

    from anyio import to_thread
    from mcp_types import CallToolResult, TextContent

    from kvcalc.cli import _tools

    answered = await to_thread.run_sync(partial(_tools.call, params.name, params.arguments or {}))
    return CallToolResult(
        content=[TextContent(text=answered.words)],
        structured_content=None if answered.is_error else {"answers": list(answered.documents)},
        is_error=answered.is_error,
    )


COMMAND = Command(
    help="Serve size, compare, fit, check, diff and more as tools for agents (Model Context Protocol, stdio).",
    epilog=f"Example, in an agent's server list: kvcalc mcp ({install('mcp')})",
    takes=(),
    run=run,
)
