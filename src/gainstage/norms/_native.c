/* The norms of one step's gradients in one call: after a backward pass no code is in the caches, so
 * that each further call costs several times its time in a loop.
 *
 * Only float32 gradients that lie in the host's memory without gaps are read; for anything else
 * `plain_norms` returns None, and the caller goes another way.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <float.h>
#include <math.h>

#define LANES 32
/* Elements that are summed in float32 before the sum goes on in float64. */
#define BLOCK 8192
/* Squares that sum to more have lost less than 1e-7 of it to underflow. */
#define SURE_SQUARES 0x1p-70

static PyObject *grad_, *is_cpu_, *dtype_, *is_contiguous_, *numel_, *data_ptr_;

static double exact_sum_of_squares(const float *x, Py_ssize_t count)
{
    double sum = 0.0;
    for (Py_ssize_t i = 0; i < count; i++)
        sum += (double)x[i] * (double)x[i];
    return sum;
}

/* Sum in float32 by lanes, which the compiler makes vectors of; again in float64 where squares may
 * have left the range of float32. */
static double sum_of_squares(const float *x, Py_ssize_t count)
{
    double sum = 0.0;
    Py_ssize_t i = 0;
    while (i + LANES <= count) {
        float lanes[LANES] = {0};
        Py_ssize_t end = count - i > BLOCK ? i + BLOCK : count;
        for (; i + LANES <= end; i += LANES)
            for (int lane = 0; lane < LANES; lane++)
                lanes[lane] += x[i + lane] * x[i + lane];
        for (int lane = 0; lane < LANES; lane++)
            sum += (double)lanes[lane];
    }
    sum += exact_sum_of_squares(x + i, count - i);
    if (sum > SURE_SQUARES && sum < (double)FLT_MAX)
        return sum;
    return exact_sum_of_squares(x, count);
}

static int attribute_is(PyObject *object, PyObject *name, PyObject *wanted)
{
    PyObject *value = PyObject_GetAttr(object, name);
    if (value == NULL)
        return -1;
    Py_DECREF(value);
    return value == wanted;
}

static int call_is_true(PyObject *object, PyObject *name)
{
    PyObject *value = PyObject_CallMethodNoArgs(object, name);
    if (value == NULL)
        return -1;
    Py_DECREF(value);
    return value == Py_True;
}

/* Return 1 and a gradient's elements, 0 where it is not one to be read here, -1 for an error. */
static int elements_of(PyObject *grad, PyTypeObject *plain, PyObject *float32, const float **x,
                       Py_ssize_t *count)
{
    if (Py_TYPE(grad) != plain)
        return 0;
    int known = attribute_is(grad, is_cpu_, Py_True);
    if (known == 1)
        known = attribute_is(grad, dtype_, float32);
    if (known == 1)
        known = call_is_true(grad, is_contiguous_);
    if (known != 1)
        return known;
    PyObject *number = PyObject_CallMethodNoArgs(grad, numel_);
    if (number == NULL)
        return -1;
    *count = PyLong_AsSsize_t(number);
    Py_DECREF(number);
    PyObject *address = PyObject_CallMethodNoArgs(grad, data_ptr_);
    if (address == NULL)
        return -1;
    *x = PyLong_AsVoidPtr(address);
    Py_DECREF(address);
    if (PyErr_Occurred())
        return -1;
    return *count > 0 && *x != NULL;
}

PyDoc_STRVAR(plain_norms_doc,
             "plain_norms(parameters, plain, float32, /)\n--\n\n"
             "Return the 2-norm of the gradient of each parameter of a list, and of all together.\n"
             "\n"
             "None where a gradient is not of the type `plain`, or not dense float32 on the CPU.");

static PyObject *plain_norms(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 3 || !PyList_Check(args[0]) || !PyType_Check(args[1])) {
        PyErr_SetString(PyExc_TypeError, "plain_norms takes a list of parameters, a type, a dtype");
        return NULL;
    }
    PyObject *parameters = args[0];
    Py_ssize_t length = PyList_GET_SIZE(parameters);
    PyObject *norms = PyList_New(length);
    if (norms == NULL)
        return NULL;
    double total = 0.0;
    for (Py_ssize_t i = 0; i < length; i++) {
        const float *x = NULL;
        Py_ssize_t count = 0;
        PyObject *grad = PyObject_GetAttr(PyList_GET_ITEM(parameters, i), grad_);
        int known = -1;
        if (grad != NULL)
            known = elements_of(grad, (PyTypeObject *)args[1], args[2], &x, &count);
        double squares = known == 1 ? sum_of_squares(x, count) : 0.0;
        Py_XDECREF(grad);
        PyObject *norm = known == 1 ? PyFloat_FromDouble(sqrt(squares)) : NULL;
        if (norm == NULL) {
            Py_DECREF(norms);
            if (known == 0)
                Py_RETURN_NONE;
            return NULL;
        }
        PyList_SET_ITEM(norms, i, norm);
        total += squares;
    }
    return Py_BuildValue("(Nd)", norms, sqrt(total));
}

static PyMethodDef methods[] = {
    {"plain_norms", (PyCFunction)(void (*)(void))plain_norms, METH_FASTCALL, plain_norms_doc},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "gainstage.norms._native",
    .m_size = -1,
    .m_methods = methods,
};

PyMODINIT_FUNC PyInit__native(void)
{
    grad_ = PyUnicode_InternFromString("grad");
    is_cpu_ = PyUnicode_InternFromString("is_cpu");
    dtype_ = PyUnicode_InternFromString("dtype");
    is_contiguous_ = PyUnicode_InternFromString("is_contiguous");
    numel_ = PyUnicode_InternFromString("numel");
    data_ptr_ = PyUnicode_InternFromString("data_ptr");
    if (data_ptr_ == NULL)
        return NULL;
    return PyModule_Create(&definition);
}
