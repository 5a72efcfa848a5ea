// SPDX-License-Identifier: Apache-2.0

// Publishing of objects that have a descriptor (iommufd: iommufd_eventq_init()). The descriptor is
// a user of its object and has a reference to the context, so that both outlive the open
// /dev/iommu.

internal import SystemPackage
internal import UAPI

extension UserCommand {
  /// Answers the command as ``respond(publishing:)`` does, for an object with the descriptor
  /// `file`. The order is: choose the number of the descriptor, store the answer, publish the
  /// object, give the client the descriptor. A failure undoes all of it.
  /// - Parameter number: the member of the answer for the number of the descriptor.
  func respond(
    publishing object: Object, installing file: any OpenFile,
    number: WritableKeyPath<Arguments, UInt32>
  ) throws(Errno) {
    let context = context
    do throws(Errno) {
      try context.retain()
    } catch {
      context.withdraw(object, isPublished: false)
      throw error
    }
    context.lock.withLock { object.addUser() }
    var isPublished = false
    do throws(Errno) {
      var answer = self
      try client.install(file) { (descriptor: Int32) throws(Errno) in
        answer.arguments[keyPath: number] = UInt32(bitPattern: descriptor)
        try answer.respond()
        context.lock.withLock { context.objects.finalize(object) }
        isPublished = true
      }
    } catch {
      context.lock.withLock { object.dropUser() }
      context.withdraw(object, isPublished: isPublished)
      context.release()
      throw error
    }
  }
}

extension Context {
  /// Destroys an object whose command has failed.
  fileprivate func withdraw(_ object: Object, isPublished: Bool) {
    lock.withLock {
      if isPublished {
        // EBUSY when another thread has guessed the ID and uses the object, which then lives as
        // long as the context.
        try? destroy(object.id)
      } else {
        object.destroy()
        objects.abort(object.id)
      }
    }
  }
}

extension Object {
  /// Called when the last copy of the object's descriptor is closed.
  /// iommufd: iommufd_eventq_fops_release()
  func releaseDescriptor() {
    context.lock.withLock { dropUser() }
    context.release()
  }
}
