# %% [markdown]
# Rewrites later cells' syntax trees so that an assert becomes pass.

# %%
import ast


class NoAsserts(ast.NodeTransformer):
    def visit_Assert(self, node):
        return ast.copy_location(ast.Pass(), node)


get_ipython().ast_transformers.append(NoAsserts())
