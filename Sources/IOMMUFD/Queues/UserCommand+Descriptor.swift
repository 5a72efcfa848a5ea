// Objects that come with a descriptor of their own (iommufd: iommufd_eventq_init()). The descriptor is
// one of the object's users and keeps the context alive, longer than the iommufd's own.

internal import SystemPackage
internal import UAPI

extension UserCommand {
  /// As ``respond(publishing:)``, for an object whose descriptor is `file`. The number is chosen first,
  /// then the answer is written, then the object is published; the client has the descriptor last.
  /// A failure takes all of it back.
  /// - Parameter number: where the answer has it.
  func respond(
    publishing object: Object, installing file: any OpenFile,
    number: WritableKeyPath<Arguments, UInt32>
  ) throws(Errno) {
    let context = context
    do throws(Errno) {
      try context.retain()
    } catch {
      context.takeBack(object, isPublished: false)
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
      context.takeBack(object, isPublished: isPublished)
      context.release()
      throw error
    }
  }
}

extension Context {
  fileprivate func takeBack(_ object: Object, isPublished: Bool) {
    lock.withLock {
      if isPublished {
        // EBUSY: somebody was quick to use it; it goes with the context.
        try? destroy(object.id)
      } else {
        object.destroy()
        objects.abort(object.id)
      }
    }
  }
}

extension Object {
  /// The last copy of the object's descriptor is closed. iommufd: iommufd_eventq_fops_release()
  func releaseDescriptor() {
    context.lock.withLock { dropUser() }
    context.release()
  }
}
