"""A height map as an OpenGL surface that is cheap to replace many times a second.

Only one float per pixel travels to the graphics card. The vertex shader sees the four neighbours of a
pixel as further attributes of the same buffer, read with an offset of one cell, and makes the normal
from them: no normals are ever computed or uploaded. For that the buffer carries a margin that repeats
the edge. The index buffers depend on the grid size alone.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from OpenGL import GL
from OpenGL.GL import shaders
from pyqtgraph.opengl.GLGraphicsItem import GLGraphicsItem
from PySide6.QtGui import QOpenGLContext, QSurfaceFormat, QVector3D
from PySide6.QtOpenGL import QOpenGLBuffer

HOLE = -1e30
"""Stands for NaN in the vertex buffer: what a shader makes of NaN differs from driver to driver."""
FLOOR = -1e20
"""A height below every clamp: ends up on the floor of the block."""
COARSE = 3
"""While the camera moves on a machine without a graphics card, every third row and column is drawn."""

ALL = ("grid", "z", "trust", "colours", "picture")
ATTRIBUTES = ("a_z", "a_left", "a_right", "a_above", "a_below", "a_uv", "a_trust")

VERTEX_SHADER = """
uniform mat4 u_mvp;
uniform vec2 u_extent;   // size of the surface in the scene
uniform vec2 u_cell;     // distance in the scene between the neighbours of a pixel, right - left and above - below
uniform vec2 u_range;    // heights of the two ends of the colour map
uniform vec2 u_clamp;    // heights beyond are drawn there: a stray peak must not dwarf the surface
uniform vec2 u_lift;     // height that lies at zero, scene units per unit of height
IN float a_z; IN float a_left; IN float a_right; IN float a_above; IN float a_below;
IN vec2 a_uv;            // column and row, 0 to 1
IN float a_trust;        // 1 trusted, lower dimmed
OUT vec3 v_normal; OUT vec2 v_uv; OUT float v_colour; OUT float v_trust; OUT float v_here;

float height(float z, float own) { return clamp(z < -1e29 ? own : z, u_clamp.x, u_clamp.y); }

void main() {
    bool hole = a_z < -1e29;
    float own = hole ? u_lift.x : clamp(a_z, u_clamp.x, u_clamp.y);
    vec2 slope = vec2(height(a_right, own) - height(a_left, own), height(a_above, own) - height(a_below, own));
    v_normal = vec3(-slope * u_lift.y / u_cell, 1.0);
    v_uv = a_uv;
    v_colour = clamp((own - u_range.x) / (u_range.y - u_range.x), 0.0, 1.0);
    v_trust = a_trust;
    v_here = hole ? 0.0 : 1.0;
    gl_Position = u_mvp * vec4((a_uv.x - 0.5) * u_extent.x, (0.5 - a_uv.y) * u_extent.y,
                               (own - u_lift.x) * u_lift.y, 1.0);
}
"""

FRAGMENT_SHADER = """
uniform sampler2D u_colours;
uniform sampler2D u_picture;
uniform float u_use_picture;
uniform float u_hill_shade;
uniform vec3 u_light;    // towards the light
uniform vec3 u_glint;    // halfway between light and camera
uniform vec4 u_wall;     // colour of the sides of the block; alpha 0 for the surface itself
IN vec3 v_normal; IN vec2 v_uv; IN float v_colour; IN float v_trust; IN float v_here;

void main() {
    if (v_here < 0.999) discard;
    if (u_wall.a > 0.5) { COLOUR = u_wall; return; }
    vec3 colour = u_use_picture > 0.5 ? TEXTURE(u_picture, v_uv).rgb
                                      : TEXTURE(u_colours, vec2((v_colour * 255.0 + 0.5) / 256.0, 0.5)).rgb;
    colour = mix(vec3(0.36 * dot(colour, vec3(0.3, 0.6, 0.1)) + 0.16), colour, v_trust);
    vec3 normal = normalize(v_normal);
    float light = 0.34 + 0.74 * max(dot(normal, u_light), 0.0);
    float glint = 0.16 * pow(max(dot(normal, u_glint), 0.0), 24.0);
    colour = mix(colour, colour * light + vec3(glint), u_hill_shade);
    COLOUR = vec4(min(colour, vec3(1.0)), 1.0);
}
"""


class HeightItem(GLGraphicsItem):
    """The surface z(row, column), its larger side ``SIZE`` long, centred on the origin; row 0 lies at +y."""

    SIZE = 10.0

    def __init__(self) -> None:
        super().__init__()
        self.setGLOptions("opaque")
        self.coarse = False
        self.hill_shade = 0.85
        self.use_picture = False
        self.range = (0.0, 1.0)
        self.clamp = (0.0, 1.0)
        self.lift = (0.0, 1.0)
        """Height drawn at zero, scene units per unit of height."""
        self.wall_colour = (0.2, 0.2, 0.2)
        self._shape = (0, 0)
        self._z: NDArray[np.float32] = np.zeros((0, 0), np.float32)
        self._trust: NDArray[np.uint8] = np.zeros((0, 0), np.uint8)
        self._colours: NDArray[np.uint8] = np.zeros((1, 256, 3), np.uint8)
        self._picture: NDArray[np.uint8] = np.zeros((1, 1, 3), np.uint8)
        self._stale = set(ALL)
        self._buffers: dict[str, QOpenGLBuffer] = {}
        self._textures: dict[str, int] = {}
        self._index_counts: dict[str, int] = {}
        self._program: Any = None
        self._locations: dict[str, int] = {}

    # What is drawn. Everything here only marks; the buffers are written when the view paints.

    def set_heights(self, z: NDArray[np.float32], trust: NDArray[np.uint8]) -> None:
        """Heights (rows, columns), NaN for holes, and trust (rows, columns), 255 full to 0 grey. Both at least 2x2."""
        rows, columns = z.shape
        margin = COARSE
        if z.shape != self._shape:
            self._shape = (rows, columns)
            self._z = np.empty((rows + 2 * margin, columns + 2 * margin), np.float32)
            self._trust = np.zeros_like(self._z, dtype=np.uint8)
            self._stale.add("grid")
        padded = self._z
        inner = padded[margin:-margin, margin:-margin]
        np.copyto(inner, z)
        inner[np.isnan(inner)] = HOLE
        padded[margin:-margin, :margin] = inner[:, :1]
        padded[margin:-margin, -margin:] = inner[:, -1:]
        padded[:margin] = padded[margin]
        padded[-margin:] = padded[-margin - 1]
        self._trust[margin:-margin, margin:-margin] = trust
        self._stale |= {"z", "trust"}
        self.update()

    def clear(self) -> None:
        self._shape = (0, 0)
        self.update()

    def set_colours(self, colours: NDArray[np.uint8]) -> None:
        """The colour map, (256, 3)."""
        self._colours = np.ascontiguousarray(colours[None])
        self._stale.add("colours")
        self.update()

    def set_picture(self, picture: NDArray[np.uint8]) -> None:
        """An image (H, W, 3) to lay over the surface, of the same field of view but any resolution."""
        self._picture = np.ascontiguousarray(picture)
        self._stale.add("picture")
        self.update()

    @property
    def grid_shape(self) -> tuple[int, int]:
        """(rows, columns) on the graphics card."""
        return self._shape

    @property
    def extent(self) -> tuple[float, float]:
        """Size in x and y in the scene."""
        rows, columns = self._shape
        longest = max(rows, columns, 1)
        return self.SIZE * columns / longest, self.SIZE * rows / longest

    # Drawing.

    def paint(self) -> None:
        if 0 in self._shape:
            return
        if self._program is None:
            self._program = _compile()
            self._locations = {name: GL.glGetAttribLocation(self._program, name) for name in ATTRIBUTES}
        self._upload()
        self.setupGLState()
        step = COARSE if self.coarse else 1
        self._bind_attributes(step)
        with self._program:
            self._set_uniforms(step)
            part = "coarse" if self.coarse else "fine"
            self._buffers[part].bind()
            GL.glDrawElements(GL.GL_TRIANGLES, self._index_counts[part], GL.GL_UNSIGNED_INT, None)
            self._buffers[part].release()
            self._draw_walls()
        for location in self._locations.values():
            if location >= 0:
                GL.glDisableVertexAttribArray(location)
        GL.glActiveTexture(GL.GL_TEXTURE0)
        GL.glBindTexture(GL.GL_TEXTURE_2D, 0)

    def release(self) -> None:
        """Give the memory of the graphics card back; the item draws again when painted in another context.

        Needs the context to be current.
        """
        for buffer in self._buffers.values():
            buffer.destroy()
        if self._textures:
            GL.glDeleteTextures(list(self._textures.values()))
        if self._program is not None:
            GL.glDeleteProgram(self._program)
        self._buffers, self._textures, self._program = {}, {}, None
        self._stale = set(ALL)

    def _upload(self) -> None:
        if "grid" in self._stale:
            rows, columns = self._shape
            self._write("uv", _texture_coordinates(rows, columns))
            self._write("wall uv", _wall_coordinates(rows, columns))
            for part, step in (("fine", 1), ("coarse", COARSE)):
                indices = _triangles(rows, columns, step)
                self._index_counts[part] = indices.size
                self._write(part, indices, QOpenGLBuffer.Type.IndexBuffer)
        if "z" in self._stale:
            self._write("z", self._z, usage=QOpenGLBuffer.UsagePattern.DynamicDraw)
            margin = COARSE
            walls = _wall_heights(self._z[margin:-margin, margin:-margin])
            self._write("wall z", walls, usage=QOpenGLBuffer.UsagePattern.DynamicDraw)
        if "trust" in self._stale:
            self._write("trust", self._trust, usage=QOpenGLBuffer.UsagePattern.DynamicDraw)
        if "colours" in self._stale:
            self._write_texture("colours", self._colours)
        if "picture" in self._stale:
            self._write_texture("picture", self._picture)
        self._stale.clear()

    def _write(
        self,
        name: str,
        values: NDArray[Any],
        kind: QOpenGLBuffer.Type = QOpenGLBuffer.Type.VertexBuffer,
        usage: QOpenGLBuffer.UsagePattern = QOpenGLBuffer.UsagePattern.StaticDraw,
    ) -> None:
        buffer = self._buffers.get(name)
        if buffer is None:
            buffer = self._buffers[name] = QOpenGLBuffer(kind)
            buffer.create()
            buffer.setUsagePattern(usage)
        buffer.bind()
        if buffer.size() != values.nbytes:
            buffer.allocate(values, values.nbytes)
        else:
            buffer.write(0, values, values.nbytes)
        buffer.release()

    def _write_texture(self, name: str, pixels: NDArray[np.uint8]) -> None:
        if name not in self._textures:
            self._textures[name] = int(GL.glGenTextures(1))
        GL.glBindTexture(GL.GL_TEXTURE_2D, self._textures[name])
        for parameter, value in (
            (GL.GL_TEXTURE_MIN_FILTER, GL.GL_LINEAR),
            (GL.GL_TEXTURE_MAG_FILTER, GL.GL_LINEAR),
            (GL.GL_TEXTURE_WRAP_S, GL.GL_CLAMP_TO_EDGE),
            (GL.GL_TEXTURE_WRAP_T, GL.GL_CLAMP_TO_EDGE),
        ):
            GL.glTexParameteri(GL.GL_TEXTURE_2D, parameter, value)
        GL.glPixelStorei(GL.GL_UNPACK_ALIGNMENT, 1)
        height, width = pixels.shape[:2]
        GL.glTexImage2D(GL.GL_TEXTURE_2D, 0, GL.GL_RGB, width, height, 0, GL.GL_RGB, GL.GL_UNSIGNED_BYTE, pixels)
        GL.glPixelStorei(GL.GL_UNPACK_ALIGNMENT, 4)
        GL.glBindTexture(GL.GL_TEXTURE_2D, 0)

    def _bind_attributes(self, step: int) -> None:
        width = self._z.shape[1]
        origin = COARSE * width + COARSE
        offsets = {
            "a_z": origin,
            "a_left": origin - step,
            "a_right": origin + step,
            "a_above": origin - step * width,
            "a_below": origin + step * width,
        }
        self._buffers["z"].bind()
        for name, offset in offsets.items():
            self._attribute(name, 1, GL.GL_FLOAT, False, 4 * offset)
        self._buffers["trust"].bind()
        self._attribute("a_trust", 1, GL.GL_UNSIGNED_BYTE, True, origin)
        self._buffers["uv"].bind()
        self._attribute("a_uv", 2, GL.GL_FLOAT, False, 0)
        self._buffers["uv"].release()

    def _draw_walls(self) -> None:
        """The four sides between the edge of the surface and the floor: a map looks like the block it was cut from."""
        for name, location in self._locations.items():
            if location >= 0 and name not in ("a_z", "a_uv"):
                GL.glDisableVertexAttribArray(location)
                GL.glVertexAttrib1f(location, 1.0)
        self._buffers["wall z"].bind()
        self._attribute("a_z", 1, GL.GL_FLOAT, False, 0)
        self._buffers["wall uv"].bind()
        self._attribute("a_uv", 2, GL.GL_FLOAT, False, 0)
        self._buffers["wall uv"].release()
        rows, columns = self._shape
        place = GL.glGetUniformLocation(self._program, "u_wall")
        first = 0
        for count, light in ((columns, 0.8), (columns, 1.0), (rows, 1.25), (rows, 0.6)):
            red, green, blue = (light * part for part in self.wall_colour)
            GL.glUniform4f(place, red, green, blue, 1.0)
            GL.glDrawArrays(GL.GL_TRIANGLE_STRIP, first, 2 * count)
            first += 2 * count

    def _attribute(self, name: str, size: int, kind: int, normalised: bool, offset: int) -> None:
        location = self._locations[name]
        if location >= 0:  # a driver may drop an attribute that it finds to have no effect
            GL.glEnableVertexAttribArray(location)
            GL.glVertexAttribPointer(location, size, kind, normalised, 0, GL.GLvoidp(offset))

    def _set_uniforms(self, step: int) -> None:
        def at(name: str) -> int:
            return int(GL.glGetUniformLocation(self._program, name))

        rows, columns = self._shape
        width, height = self.extent
        light, glint = self._light()
        GL.glUniformMatrix4fv(at("u_mvp"), 1, False, np.array(self.mvpMatrix().data(), np.float32))
        GL.glUniform2f(at("u_extent"), width, height)
        GL.glUniform2f(at("u_cell"), 2 * step * width / (columns - 1), 2 * step * height / (rows - 1))
        GL.glUniform2f(at("u_range"), *self.range)
        GL.glUniform2f(at("u_clamp"), *self.clamp)
        GL.glUniform2f(at("u_lift"), *self.lift)
        GL.glUniform1f(at("u_use_picture"), float(self.use_picture))
        GL.glUniform1f(at("u_hill_shade"), self.hill_shade)
        GL.glUniform4f(at("u_wall"), 0.0, 0.0, 0.0, 0.0)
        GL.glUniform3f(at("u_light"), light.x(), light.y(), light.z())
        GL.glUniform3f(at("u_glint"), glint.x(), glint.y(), glint.z())
        for unit, name in enumerate(("colours", "picture")):
            GL.glActiveTexture(GL.GL_TEXTURE0 + unit)
            GL.glBindTexture(GL.GL_TEXTURE_2D, self._textures[name])
            GL.glUniform1i(at(f"u_{name}"), unit)

    def _light(self) -> tuple[QVector3D, QVector3D]:
        """Light from the upper left of the observer, where the eye expects it, whichever way the surface is turned."""
        to_scene = self.modelViewMatrix().inverted()[0]
        towards_eye = to_scene.mapVector(QVector3D(0, 0, 1)).normalized()
        right = to_scene.mapVector(QVector3D(1, 0, 0)).normalized()
        up = QVector3D(0, 0, 1)
        back = QVector3D.crossProduct(up, right).normalized()
        light = (up * 0.78 + right * -0.50 + back * 0.38).normalized()
        return light, (light + towards_eye).normalized()


def _texture_coordinates(rows: int, columns: int) -> NDArray[np.float32]:
    """Column and row from 0 to 1 for every vertex of a buffer with margin, read from the first inner vertex on."""
    width = columns + 2 * COARSE
    uv = np.zeros((rows, width, 2), np.float32)
    uv[:, :columns, 0] = np.linspace(0.0, 1.0, columns, dtype=np.float32)
    uv[..., 1] = np.linspace(0.0, 1.0, rows, dtype=np.float32)[:, None]
    return uv


def _edges(grid: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    """First and last row, first and last column."""
    return grid[0], grid[-1], grid[:, 0], grid[:, -1]


def _wall_coordinates(rows: int, columns: int) -> NDArray[np.float32]:
    """Column and row, 0 to 1, of the walls' vertices: along each edge, one above and one below."""
    row, column = np.meshgrid(np.linspace(0, 1, rows), np.linspace(0, 1, columns), indexing="ij")
    uv = np.stack((column, row), axis=-1).astype(np.float32)
    return np.concatenate([np.repeat(edge, 2, axis=0) for edge in _edges(uv)])


def _wall_heights(z: NDArray[np.float32]) -> NDArray[np.float32]:
    """Heights of the walls' vertices; there is no wall below a hole."""
    walls = []
    for edge in _edges(z):
        wall = np.repeat(edge, 2)
        wall[1::2] = np.where(edge == HOLE, HOLE, FLOOR)
        walls.append(wall)
    return np.concatenate(walls).astype(np.float32)


def _triangles(rows: int, columns: int, step: int) -> NDArray[np.uint32]:
    """Two triangles per cell of the grid thinned by ``step``, (cells, 6) indices relative to the first inner vertex."""
    width = columns + 2 * COARSE
    row = np.unique(np.append(np.arange(0, rows, step), rows - 1)).astype(np.uint32)
    column = np.unique(np.append(np.arange(0, columns, step), columns - 1)).astype(np.uint32)
    corner = row[:, None] * np.uint32(width) + column[None, :]
    a, b, c, d = corner[:-1, :-1], corner[:-1, 1:], corner[1:, :-1], corner[1:, 1:]
    return np.stack((a, c, b, b, c, d), axis=-1).reshape(-1, 6)


def _compile() -> Any:
    """The shader program in the dialect of the current context (OpenGL 2.1, 3.1 core or newer, OpenGL ES 3)."""
    context = QOpenGLContext.currentContext()
    profile = context.format().profile()
    legacy_vertex = "#define IN attribute\n#define OUT varying\n"
    legacy_fragment = "#define IN varying\n#define TEXTURE texture2D\n#define COLOUR gl_FragColor\n"
    modern_vertex = "#define IN in\n#define OUT out\n"
    modern_fragment = "#define IN in\n#define TEXTURE texture\nout vec4 COLOUR;\n"
    if context.isOpenGLES():
        version, vertex, fragment = "#version 300 es\nprecision highp float;\n", modern_vertex, modern_fragment
    elif profile == QSurfaceFormat.OpenGLContextProfile.CoreProfile:
        version, vertex, fragment = "#version 140\n", modern_vertex, modern_fragment
    else:
        version, vertex, fragment = "#version 120\n", legacy_vertex, legacy_fragment
    return shaders.compileProgram(
        shaders.compileShader(version + vertex + VERTEX_SHADER, GL.GL_VERTEX_SHADER),
        shaders.compileShader(version + fragment + FRAGMENT_SHADER, GL.GL_FRAGMENT_SHADER),
        validate=False,
    )
