/* The norms of one step's gradients in one call: after a backward pass no code is in the caches, so
 * that each further call costs several times its time in a loop.
 *
 * Only float32 gradients that lie in the host's memory without gaps are read; for anything else
 * `plain_norms` returns None, and the caller goes another way. A tensor is looked at through DLPack's
 * C exchange API (dmlc/dlpack, dlpack.h), which torch offers as `__dlpack_c_exchange_api__`.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <float.h>
#include <math.h>
#include <stdint.h>

#define LANES 32
/* Elements that are summed in float32 before the sum goes on in float64. */
#define BLOCK 8192
/* Squares that sum to more have lost less than 1e-7 of it to underflow. */
#define SURE_SQUARES 0x1p-70

/* As in dlpack.h, major version 1. */
typedef struct {
    void *data;
    struct { int32_t type, id; } device;
    int32_t ndim;
    struct { uint8_t code, bits; uint16_t lanes; } dtype;
    int64_t *shape, *strides;
    uint64_t byte_offset;
} DLTensor;

typedef struct {
    struct { uint32_t major, minor; } version;
    void *prev_api, *managed_tensor_allocator, *managed_tensor_from_py_object_no_sync;
    void *managed_tensor_to_py_object_no_sync;
    int (*dltensor_from_py_object_no_sync)(void *object, DLTensor *out);
} DLPackExchangeAPI;

#define DLPACK_MAJOR 1
#define ON_CPU 1
#define IS_FLOAT 2

static PyObject *grad_;
static PyTypeObject *tensor_type;
static const DLPackExchangeAPI *exchange;

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

/* Return 1 and a tensor's elements, 0 where it is not one to be read here. */
static int elements_of(PyObject *tensor, const float **x, Py_ssize_t *count)
{
    DLTensor view;
    if (Py_TYPE(tensor) != tensor_type)
        return 0;
    if (exchange->dltensor_from_py_object_no_sync(tensor, &view) != 0) {
        PyErr_Clear();
        return 0;
    }
    if (view.device.type != ON_CPU || view.data == NULL || view.dtype.code != IS_FLOAT ||
        view.dtype.bits != 32 || view.dtype.lanes != 1)
        return 0;
    int64_t dense = 1;
    for (int32_t i = view.ndim - 1; i >= 0; i--) {
        if (view.shape[i] != 1 && view.strides != NULL && view.strides[i] != dense)
            return 0;
        dense *= view.shape[i];
    }
    *x = (const float *)((const char *)view.data + view.byte_offset);
    *count = (Py_ssize_t)dense;
    return dense > 0;
}

PyDoc_STRVAR(plain_norms_doc,
             "plain_norms(parameters, /)\n--\n\n"
             "Return the 2-norm of the gradient of each parameter of a list, and of all together.\n"
             "\n"
             "None where a gradient is no plain tensor, or not dense float32 on the CPU.");

static PyObject *plain_norms(PyObject *module, PyObject *parameters)
{
    if (exchange == NULL || !PyList_Check(parameters)) {
        PyErr_SetString(PyExc_TypeError, "plain_norms takes a list, after begin(Tensor)");
        return NULL;
    }
    Py_ssize_t length = PyList_GET_SIZE(parameters);
    PyObject *norms = PyList_New(length);
    if (norms == NULL)
        return NULL;
    double total = 0.0;
    for (Py_ssize_t i = 0; i < length; i++) {
        const float *x = NULL;
        Py_ssize_t count = 0;
        PyObject *norm = NULL, *grad = PyObject_GetAttr(PyList_GET_ITEM(parameters, i), grad_);
        int is_plain = grad != NULL && elements_of(grad, &x, &count);
        if (is_plain) {
            double squares = sum_of_squares(x, count);
            total += squares;
            norm = PyFloat_FromDouble(sqrt(squares));
        }
        Py_XDECREF(grad);
        if (norm == NULL) {
            Py_DECREF(norms);
            if (PyErr_Occurred())
                return NULL;
            Py_RETURN_NONE;
        }
        PyList_SET_ITEM(norms, i, norm);
    }
    return Py_BuildValue("(Nd)", norms, sqrt(total));
}

PyDoc_STRVAR(plain_value_doc,
             "plain_value(tensor, /)\n--\n\n"
             "Return the value of a plain tensor of one float32 element on the CPU, else None.");

static PyObject *plain_value(PyObject *module, PyObject *tensor)
{
    const float *x = NULL;
    Py_ssize_t count = 0;
    if (exchange == NULL || !elements_of(tensor, &x, &count) || count != 1)
        Py_RETURN_NONE;
    return PyFloat_FromDouble((double)*x);
}

PyDoc_STRVAR(begin_doc,
             "begin(plain, /)\n--\n\n"
             "Prepare for tensors of the type `plain`; False where it has no DLPack exchange API of "
             "version 1.");

static PyObject *begin(PyObject *module, PyObject *plain)
{
    PyObject *capsule = PyObject_GetAttrString(plain, "__dlpack_c_exchange_api__");
    if (capsule == NULL) {
        PyErr_Clear();
        Py_RETURN_FALSE;
    }
    const DLPackExchangeAPI *api = PyCapsule_GetPointer(capsule, "dlpack_exchange_api");
    Py_DECREF(capsule); /* the table is static, says dlpack.h */
    if (api == NULL) {
        PyErr_Clear();
        Py_RETURN_FALSE;
    }
    if (api->version.major != DLPACK_MAJOR || api->dltensor_from_py_object_no_sync == NULL)
        Py_RETURN_FALSE;
    Py_INCREF(plain);
    tensor_type = (PyTypeObject *)plain;
    exchange = api;
    Py_RETURN_TRUE;
}

static PyMethodDef methods[] = {
    {"plain_norms", plain_norms, METH_O, plain_norms_doc},
    {"plain_value", plain_value, METH_O, plain_value_doc},
    {"begin", begin, METH_O, begin_doc},
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
    return grad_ == NULL ? NULL : PyModule_Create(&definition);
}
