//! The Arrow C data interface for columns of 8-byte numbers without nulls: two structs and their
//! release functions, as <https://arrow.apache.org/docs/format/CDataInterface.html> defines them.
#![expect(unsafe_code, reason = "the interface consists of C structs with pointers and callbacks")]

use std::{
    ffi::{CStr, c_char, c_void},
    ptr,
    sync::Arc,
};

use pyo3::{prelude::*, types::PyCapsule};

const SCHEMA_NAME: &CStr = c"arrow_schema";
const ARRAY_NAME: &CStr = c"arrow_array";

/// Numbers of a column. All have 8 bytes.
#[derive(Clone, Debug)]
pub(crate) enum Numbers {
    /// Signed integers.
    Integers(Arc<Vec<i64>>),
    /// Floats.
    Floats(Arc<Vec<f64>>),
}

/// `struct ArrowSchema`.
#[repr(C)]
struct ArrowSchema {
    format: *const c_char,
    name: *const c_char,
    metadata: *const c_char,
    flags: i64,
    n_children: i64,
    children: *mut *mut ArrowSchema,
    dictionary: *mut ArrowSchema,
    release: Option<unsafe extern "C" fn(*mut ArrowSchema)>,
    private_data: *mut c_void,
}

/// `struct ArrowArray`.
#[repr(C)]
struct ArrowArray {
    length: i64,
    null_count: i64,
    offset: i64,
    n_buffers: i64,
    n_children: i64,
    buffers: *mut *const c_void,
    children: *mut *mut ArrowArray,
    dictionary: *mut ArrowArray,
    release: Option<unsafe extern "C" fn(*mut ArrowArray)>,
    private_data: *mut c_void,
}

/// Memory that an array owns: its numbers, and the list of its buffers.
struct ArrayOwner {
    buffers: [*const c_void; 2],
    _numbers: Numbers,
}

// SAFETY: the pointers are to constants and to nothing, and no thread is preferred.
unsafe impl Send for ArrowSchema {}
// SAFETY: the pointers are to immutable memory that the array itself owns.
unsafe impl Send for ArrowArray {}

/// Returns the type of a column.
pub(crate) fn schema<'py>(py: Python<'py>, numbers: &Numbers) -> PyResult<Bound<'py, PyCapsule>> {
    let format = match numbers {
        Numbers::Integers(_) => c"l",
        Numbers::Floats(_) => c"g",
    };
    let schema = ArrowSchema {
        format: format.as_ptr(),
        name: c"".as_ptr(),
        metadata: ptr::null(),
        flags: 0,
        n_children: 0,
        children: ptr::null_mut(),
        dictionary: ptr::null_mut(),
        release: Some(release_schema),
        private_data: ptr::null_mut(),
    };
    PyCapsule::new_with_value(py, schema, SCHEMA_NAME)
}

/// Returns a column, which shares its memory.
pub(crate) fn array<'py>(py: Python<'py>, numbers: &Numbers) -> PyResult<Bound<'py, PyCapsule>> {
    let data = match numbers {
        Numbers::Integers(integers) => integers.as_ptr().cast(),
        Numbers::Floats(floats) => floats.as_ptr().cast(),
    };
    // The first buffer would say which rows are null.
    let owner = ArrayOwner { buffers: [ptr::null(), data], _numbers: numbers.clone() };
    let owner = Box::into_raw(Box::new(owner));
    let array = ArrowArray {
        length: numbers.len() as i64,
        null_count: 0,
        offset: 0,
        n_buffers: 2,
        n_children: 0,
        // SAFETY: the owner was allocated above, and lives until `release_array`.
        buffers: unsafe { (&raw mut (*owner).buffers).cast() },
        children: ptr::null_mut(),
        dictionary: ptr::null_mut(),
        release: Some(release_array),
        private_data: owner.cast(),
    };
    PyCapsule::new_with_value(py, array, ARRAY_NAME)
}

impl Numbers {
    /// Number of rows.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Integers(integers) => integers.len(),
            Self::Floats(floats) => floats.len(),
        }
    }
}

impl Drop for ArrowArray {
    /// Frees what no consumer has taken. One that has taken the array has set `release` to null.
    fn drop(&mut self) {
        if let Some(release) = self.release {
            // SAFETY: the struct is complete, and has not been released.
            unsafe { release(self) };
        }
    }
}

/// # Safety
///
/// `schema` is one that `schema` made and that has not been released.
unsafe extern "C" fn release_schema(schema: *mut ArrowSchema) {
    // Everything that it points to is constant.
    // SAFETY: by the contract of the function.
    unsafe { (*schema).release = None };
}

/// # Safety
///
/// `array` is one that `array` made and that has not been released.
unsafe extern "C" fn release_array(array: *mut ArrowArray) {
    // SAFETY: by the contract of the function, `private_data` is the box that `array` leaked.
    unsafe {
        drop(Box::from_raw((*array).private_data.cast::<ArrayOwner>()));
        (*array).release = None;
    }
}
